package rest

import (
	"context"
	"net/http"

	"github.com/skerry-edge/skerry/api"
)

func (s *Server) admission() {
	s.tokens()
	s.enrollments()
	s.operators()
	s.accessTokens()
}

// revocation registers a DELETE that takes an administrator.
func (s *Server) revocation(path, id, action string, revoke func(ctx context.Context, id, by string) error) {
	add(s, route{http.MethodDelete, path, id, "Revoke", "admission", api.RoleAdmin, action, "id"},
		func(ctx context.Context, who Principal, in *byID) (*none, error) {
			return nil, s.did(who, action, in.ID, revoke(ctx, in.ID, who.Name))
		})
}

func (s *Server) tokens() {
	add(s, route{http.MethodPost, "/v1/tokens", "create-token", "Make a join token", "admission", api.RoleAdmin, "token.create", ""},
		func(ctx context.Context, who Principal, in *struct{ Body api.TokenRequest }) (*one[api.Token], error) {
			t, err := s.site.Admission.CreateToken(ctx, in.Body, who.Name)
			return oneOf(t, s.did(who, "token.create", t.ID, err))
		})
	add(s, route{http.MethodGet, "/v1/tokens", "list-tokens", "List join tokens, without their secrets", "admission", api.RoleOperator, "", ""},
		func(context.Context, Principal, *none) (*list[api.Token], error) {
			return listOf(s.site.Admission.Tokens())
		})
	s.revocation("/v1/tokens/{id}", "revoke-token", "token.revoke", func(ctx context.Context, id, _ string) error {
		return s.site.Admission.RevokeToken(ctx, id)
	})
}

func (s *Server) enrollments() {
	add(s, route{http.MethodGet, "/v1/enrollments", "list-enrollments", "List devices that wait for approval", "admission",
		api.RoleOperator, "", ""},
		func(context.Context, Principal, *none) (*list[api.Enrollment], error) {
			return listOf(s.site.Admission.Enrollments())
		})
	add(s, route{http.MethodPost, "/v1/enrollments/{id}/approve", "approve-enrollment", "Let a waiting device in", "admission",
		api.RoleAdmin, "enrollment.approve", "id"},
		func(ctx context.Context, who Principal, in *byID) (*one[api.Enrollment], error) {
			e, err := s.site.Admission.Approve(ctx, in.ID, who.Name)
			return oneOf(e, s.did(who, "enrollment.approve", in.ID+" "+e.Node, err))
		})
	add(s, route{http.MethodDelete, "/v1/enrollments/{id}", "deny-enrollment", "Refuse a waiting device", "admission", api.RoleAdmin,
		"enrollment.deny", "id"},
		func(ctx context.Context, who Principal, in *byID) (*none, error) {
			return nil, s.did(who, "enrollment.deny", in.ID, s.site.Admission.Deny(ctx, in.ID, who.Name))
		})
}

func (s *Server) operators() {
	add(s, route{http.MethodPost, "/v1/operators", "create-operator", "Certify an operator's key", "admission", api.RoleAdmin,
		"operator.create", ""},
		func(ctx context.Context, who Principal, in *struct{ Body api.OperatorRequest }) (*one[api.Operator], error) {
			op, err := s.site.Admission.CreateOperator(ctx, in.Body, who.Name)
			return oneOf(op, s.did(who, "operator.create", in.Body.Name+" "+string(in.Body.Role), err))
		})
	add(s, route{http.MethodGet, "/v1/operators", "list-operators", "List operators' certificates", "admission", api.RoleOperator, "", ""},
		func(context.Context, Principal, *none) (*list[api.Operator], error) {
			return listOf(s.site.Admission.Operators())
		})
	s.revocation("/v1/operators/{id}", "revoke-operator", "operator.revoke", func(ctx context.Context, id, by string) error {
		return s.site.Admission.RevokeOperator(ctx, id, by)
	})
}

func (s *Server) accessTokens() {
	add(s, route{http.MethodPost, "/v1/access-tokens", "create-access-token", "Make an access token", "admission", api.RoleAdmin,
		"access.create", ""},
		func(ctx context.Context, who Principal, in *struct{ Body api.AccessRequest }) (*one[api.AccessToken], error) {
			t, err := s.site.Admission.CreateAccess(ctx, in.Body)
			return oneOf(t, s.did(who, "access.create", in.Body.Name+" "+string(in.Body.Role), err))
		})
	add(s, route{http.MethodGet, "/v1/access-tokens", "list-access-tokens", "List access tokens, without their secrets", "admission",
		api.RoleAdmin, "", ""},
		func(context.Context, Principal, *none) (*list[api.AccessToken], error) {
			return listOf(s.site.Admission.AccessTokens())
		})
	s.revocation("/v1/access-tokens/{id}", "revoke-access-token", "access.revoke", func(ctx context.Context, id, _ string) error {
		return s.site.Admission.RevokeAccess(ctx, id)
	})
}
