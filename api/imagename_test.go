package api

import (
	"strings"
	"testing"
)

const emptyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestShortImageNamesAreFilledIn(t *testing.T) {
	for text, want := range map[string]string{
		"busybox":                      "docker.io/library/busybox:latest",
		"busybox:1.36":                 "docker.io/library/busybox:1.36",
		"org/app":                      "docker.io/org/app:latest",
		"index.docker.io/org/app:1":    "docker.io/org/app:1",
		"ghcr.io/org/app/sub:v1_2.3-4": "ghcr.io/org/app/sub:v1_2.3-4",
		"localhost/app:1":              "localhost/app:1",
		"localhost:5000/app":           "localhost:5000/app:latest",
		"10.0.0.5:5000/a__b/c-d.e:T":   "10.0.0.5:5000/a__b/c-d.e:T",
		"app@" + emptyDigest:           "docker.io/library/app@" + emptyDigest,
		"app:1@" + emptyDigest:         "docker.io/library/app:1@" + emptyDigest,
		"registry.k8s.io/pause:3.10":   "registry.k8s.io/pause:3.10",
	} {
		got, err := ParseImageName(text)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; wanted %s", text, got, err, want)
			continue
		}
		if again, err := ParseImageName(want); err != nil || again != got {
			t.Errorf("%s: %+v, %v; wanted %+v again", want, again, err, got)
		}
	}
}

func TestABadImageNameIsRefusedWithWhatWasWanted(t *testing.T) {
	for text, says := range map[string]string{
		"": "a repository", "A": "a repository", "a/": "a repository", "/a": "a repository", "a//b": "a repository", "a..b": "a repository", "-a": "a repository",
		"a:": "a tag", "a:-x": "a tag", "a:x y": "a tag", "a:" + strings.Repeat("x", 129): "a tag", "a@sha256:12": "@sha256:", "a@md5:" + strings.Repeat("0", 64): "@sha256:",
		"a@" + strings.ToUpper(emptyDigest): "@sha256:", "x_y.com/a": "a registry", "x.com:port/a": "a registry", ".com/a": "a registry",
		"x.com/../../etc": "a repository", "x.com/a?b=c": "a repository", "x.com/a%2fb": "a repository", "x.com/" + strings.Repeat("a", 256): "a repository",
		"http://x.com/a": "a registry",
	} {
		if got, err := ParseImageName(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %+v, %v; wanted a refusal that asks for %s", text, got, err, says)
		}
	}
}

// FuzzImageName parses arbitrary text: what passes is the same when written and read again, and is safe in a path.
func FuzzImageName(f *testing.F) {
	for _, text := range []string{"busybox", "a.b:5/c/d:e", "app:1@" + emptyDigest, "a..b", "x:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseImageName(text)
		if err != nil {
			return
		}
		again, err := ParseImageName(n.String())
		if err != nil || again != n || strings.Contains(n.Name(), "..") || strings.ContainsAny(n.String(), " ?#%\\\n\x00") || strings.Contains(n.Name(), "//") {
			t.Errorf("%q: %+v, then %+v, %v", text, n, again, err)
		}
	})
}
