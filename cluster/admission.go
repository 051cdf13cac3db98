package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/enroll"
)

// admission is the REST side of enrolment and access.
type admission struct{ *Agent }

func (a admission) CreateToken(_ context.Context, req api.TokenRequest, by string) (api.Token, error) {
	ttl, err := readTTL(req.TTL)
	if err != nil {
		return api.Token{}, err
	}
	return a.enroll.CreateToken(enroll.TokenSpec{TTL: ttl, MaxUses: req.MaxUses, Approval: req.Approval, Labels: req.Labels, By: by})
}

func readTTL(text string) (time.Duration, error) {
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl <= 0 { // what was asked for is not taken for the default
		return 0, badRequest("ttl", fmt.Errorf("%.40q; wanted a duration above zero, such as 24h", text))
	}
	return ttl, nil
}

// optionalTTL is 0 when none was asked for.
func optionalTTL(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return readTTL(text)
}

func (a admission) Tokens() ([]api.Token, error) { return a.enroll.Tokens() }

func (a admission) RevokeToken(_ context.Context, id string) error { return a.enroll.RevokeToken(id) }

func (a admission) Enrollments() ([]api.Enrollment, error) { return a.enroll.Pending() }

func (a admission) Approve(_ context.Context, id, by string) (api.Enrollment, error) {
	return a.enroll.Approve(id, by)
}

func (a admission) Deny(_ context.Context, id, by string) error {
	_, err := a.enroll.Deny(id, by, "refused by "+by)
	return err
}

func (a admission) CreateOperator(_ context.Context, req api.OperatorRequest, by string) (api.Operator, error) {
	ttl, err := optionalTTL(req.TTL)
	if err != nil {
		return api.Operator{}, err
	}
	return a.enroll.IssueOperator(enroll.OperatorSpec{Name: req.Name, Role: req.Role, CSR: req.CSR, TTL: ttl, By: by})
}

func (a admission) Operators() ([]api.Operator, error) { return a.enroll.ListOperators() }

func (a admission) RevokeOperator(_ context.Context, name, by string) error {
	_, err := a.enroll.RevokeOperator(name, by)
	return err
}

func (a admission) CreateAccess(_ context.Context, req api.AccessRequest) (api.AccessToken, error) {
	ttl, err := optionalTTL(req.TTL)
	if err != nil {
		return api.AccessToken{}, err
	}
	return a.tokens.Create(req.Name, req.Role, ttl)
}

func (a admission) AccessTokens() ([]api.AccessToken, error) { return a.tokens.List() }

func (a admission) RevokeAccess(_ context.Context, id string) error { return a.tokens.Revoke(id) }
