package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "mailward.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// The commented reference says the truth: it is valid, it has every key, and
// what stands there are the defaults.
func TestReference_IsTheDefaults(t *testing.T) {
	c, err := loadConfig(writeFile(t, referenceYAML), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	for i, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		w := leaves(reflect.ValueOf(&want).Elem(), "")[i]
		if a, b := fmt.Sprint(l.value.Interface()), fmt.Sprint(w.value.Interface()); a != b {
			t.Errorf("%s: the reference says %s, the default is %s", l.key, a, b)
		}
		last := l.key[strings.LastIndex(l.key, ".")+1:]
		if !regexp.MustCompile(`(?m)^[^#]*\b` + last + `:`).MatchString(referenceYAML) {
			t.Errorf("%s is not in the reference", l.key)
		}
	}
}

func TestDocs_ConfigIsTheReference(t *testing.T) {
	b, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != referenceMarkdown() {
		t.Error("docs/config.md is not up to date: run make generate")
	}
}

func TestLoadConfig_BadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		want, err := os.ReadFile(strings.TrimSuffix(f, ".yaml") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		_, err = loadConfig(f, nil)
		var ce *configError
		if !errors.As(err, &ce) {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if got := strings.Join(ce.Lines(), "\n"); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s:\n%s\nwant:\n%s", f, got, want)
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error has more than one line, or shows a password: %v", f, err)
		}
	}
}

func TestLoadConfig_Environment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(secret, []byte("postgres://mailward_app:p%40ss@db/mailward\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(writeFile(t, "hostname: a.example\nsmtp: {max_message_size: 1MiB}\n"), []string{
		"MAILWARD_HOSTNAME=b.example", "MAILWARD_SMTP_LISTEN=127.0.0.1:1, [::1]:2", "MAILWARD_RELAY_DOMAINS=x.example: 'h:25'",
		"MAILWARD_SMTP_MAX_MESSAGE_SIZE=2 MiB", "MAILWARD_LIMITS_ENABLED=false", "MAILWARD_DATABASE_URL=file:" + secret,
		"MAILWARD_BOOTSTRAP_ADMIN_PASSWORD=env:OTHER", "OTHER=hunter2", "MAILWARD_TEST_REQUIRE=1", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname != "b.example" || len(c.SMTP.Listen) != 2 || c.SMTP.Listen[1] != "[::1]:2" || c.Relay.Domains["x.example"] != "h:25" ||
		c.SMTP.MaxMessageSize != 2<<20 || c.Limits.Enabled || c.Database.URL.Value() != "postgres://mailward_app:p%40ss@db/mailward" || c.Bootstrap.AdminPassword.Value() != "hunter2" {
		t.Errorf("%+v", c)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, c); strings.Contains(s, "hunter2") || strings.Contains(s, "p%40ss") || strings.Contains(s, "p@ss") {
			t.Errorf("%s shows a secret: %s", format, s)
		}
	}
	_, err = loadConfig("", []string{"MAILWARD_SMPT_LISTEN=x", "MAILWARD_LIMITS_ENABLED=perhaps", "MAILWARD_DATABASE_URL=env:NOTHING", "MAILWARD_REDIS_URL=bao:x"})
	for _, want := range []string{"unknown environment variable MAILWARD_SMPT_LISTEN", "MAILWARD_LIMITS_ENABLED", "the environment has no NOTHING", "OpenBao"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{"1": 1, "50MiB": 50 << 20, "3 KiB": 3 << 10, "1GiB": 1 << 30, "2MB": 2e6, "7B": 7} {
		var v struct{ S Size }
		if err := yaml.Unmarshal([]byte("s: "+in), &v); err != nil || v.S != want {
			t.Errorf("%s: %d %v, want %d", in, v.S, err, want)
		}
	}
	for _, bad := range []string{"x", "-1", "1.5MiB", "99999999999GiB", "MiB", "''"} {
		var v struct{ S Size }
		if err := yaml.Unmarshal([]byte("s: "+bad), &v); err == nil {
			t.Errorf("%s was taken as %d", bad, v.S)
		}
	}
	if s := Size(50 << 20).String(); s != "50MiB" {
		t.Error(s)
	}
}
