package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// leftOut stands for a payload of so many bytes.
func leftOut(n int) string { return fmt.Sprintf("[%d bytes left out]", n) }

// withoutPayload replaces arguments, output and result of a command by their sizes. The program's name stays: it is what
// the node's configuration permits.
func withoutPayload(r *api.CommandRecord) {
	hide := secrets{}
	hide.learn(r.Args)
	kept := map[string]any{}
	for key, value := range r.Args {
		kept[key] = leftOut(jsonBytes(value))
		if argv, ok := value.([]any); ok && key == "argv" && len(argv) > 0 {
			kept[key] = []any{argv[0], leftOut(jsonBytes(argv[1:]))}
		}
	}
	if r.Args != nil {
		r.Args = kept
	}
	for i := range r.History {
		r.History[i].Reason = hide.blot(r.History[i].Reason)
	}
	if r.Status == nil {
		return
	}
	s := *r.Status
	s.Reason, s.Progress = hide.blot(s.Reason), hide.blot(s.Progress)
	if s.Output != "" {
		s.Output = leftOut(len(s.Output))
	}
	if s.Result != nil {
		s.Result = map[string]any{"result": leftOut(jsonBytes(s.Result))}
	}
	r.Status = &s
}

func jsonBytes(v any) int {
	raw, err := json.Marshal(v)
	if err != nil {
		return 0
	}
	return len(raw)
}

// secrets are texts that somebody gave to a command, and that may come back in a reason or a log line.
type secrets struct{ texts []string }

// leastSecret is the shortest text that is blotted out elsewhere: shorter ones, such as 30s, are everywhere.
const leastSecret = 6

// learn takes every text among the arguments of a command, but the name of a program.
func (s *secrets) learn(args map[string]any) {
	for key, value := range args {
		if argv, ok := value.([]any); ok && key == "argv" && len(argv) > 0 {
			value = argv[1:]
		}
		s.add(value)
	}
}

func (s *secrets) add(value any) {
	switch v := value.(type) {
	case string:
		for _, form := range []string{v, strings.Trim(jsonText(v), `"`)} { // as it is, and as JSON has it
			if len(form) >= leastSecret && !slices.Contains(s.texts, form) {
				s.texts = append(s.texts, form)
			}
		}
	case []any:
		for _, item := range v {
			s.add(item)
		}
	case map[string]any:
		for _, item := range v {
			s.add(item)
		}
	}
}

func jsonText(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}

// blot replaces what was learnt, longest first, so that nothing is left of one that contains another.
func (s *secrets) blot(text string) string {
	slices.SortFunc(s.texts, func(a, b string) int { return len(b) - len(a) })
	for _, t := range s.texts {
		text = strings.ReplaceAll(text, t, "[argument]")
	}
	return text
}

// secretPatterns match what must not leave the site: join strings, access tokens, private keys, passwords in addresses,
// and values of fields whose name says that they are secret. The server sends none of it; this is the second lock on the
// door.
func secretPatterns() map[*regexp.Regexp]string {
	const names = `(?:secret|password|passwd|passphrase|token|api_?key)`
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`skerry1\.[A-Za-z0-9_-]+`):                                                   "[join string]",
		regexp.MustCompile(`skat_[A-Za-z0-9_-]+`):                                                       "[access token]",
		regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`): "[private key]",
		regexp.MustCompile(`(?i)("[a-z0-9_.-]*` + names + `"\s*:\s*)"(?:[^"\\]|\\.)*"`):                 `$1"[redacted]"`,
		regexp.MustCompile(`(?i)([a-z0-9_.-]*` + names + `\s*=\s*)[^\s"'&,;\\]+`):                       `$1[redacted]`,
		regexp.MustCompile(`(?i)(bearer\s+)[A-Za-z0-9._~+/-]{8,}=*`):                                    `$1[redacted]`,
		regexp.MustCompile(`(://[^/\s:@"]+:)[^/\s@"]+@`):                                                `$1[redacted]@`,
	}
}

func redact(text string) string {
	for re, with := range secretPatterns() {
		text = re.ReplaceAllString(text, with)
	}
	return text
}
