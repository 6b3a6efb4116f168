package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/internal/testenv"
)

// TestOnRecord: an auditor sees when a process began and ended, with which version and
// settings, and what of them has changed since the last time; and no secret.
func TestOnRecord(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	life := func(text string, reload string) {
		t.Helper()
		read := func(text string) Config {
			c, err := loadConfig(writeFile(t, text), nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		log := slog.New(slog.DiscardHandler)
		p := &program{conf: read(text), log: log, db: db.DB, audit: audit.New(db.DB, audit.Options{Log: log})}
		failed := make(chan error, 1)
		p.loop("audit of API calls", failed, p.audit.RunLater)
		p.onRecord(t.Context(), nil)
		if reload != "" {
			eventually(t, "the start is on record", func() bool { return len(lives(t, p.audit, audit.LoggingStart)) > 0 })
			conf := read(reload)
			p.reloaded(&conf)
			p.reloaded(nil)
		}
		p.stop()
	}
	first := "hostname: mx.ours.example\nbootstrap: {admin_email: boss@ours.example}\nsandbox: {url: \"https://cape.example\", token: hush}\nrelay: {domains: {ours.example: \"10.0.0.5:25\"}}\n"
	life(first, "")
	life(first, strings.Replace(first, "10.0.0.5", "10.0.0.6", 1))

	log := audit.New(db.DB, audit.Options{})
	starts, stops, reloads := lives(t, log, audit.LoggingStart), lives(t, log, audit.LoggingStop), lives(t, log, audit.ConfigReload)
	if len(starts) != 2 || len(stops) != 2 || len(reloads) != 2 {
		t.Fatalf("%d starts, %d ends, %d reloads", len(starts), len(stops), len(reloads))
	}
	after := field(starts[1], "change", "after").(map[string]any)
	for key, want := range map[string]string{"hostname": "mx.ours.example", "relay/domains/ours.example": "10.0.0.5:25", "bootstrap/admin_email": "boss@ours.example",
		"sandbox/token": "(secret)", "sandbox/url": "https://cape.example", "parts": "gateway,web,worker", "version": version} {
		if after[key] != want {
			t.Errorf("%s is %v on record, want %q", key, after[key], want)
		}
	}
	if _, usual := after["smtp/max_recipients"]; usual {
		t.Error("what is as always is on record, too")
	}
	if diff := field(starts[0], "change", "diff").([]any); len(diff) != 0 {
		t.Errorf("the second start was by other settings: %v", diff)
	}
	if diff := field(reloads[1], "change", "diff").([]any); len(diff) != 1 || diff[0] != "relay/domains/ours.example" {
		t.Errorf("changed by the reload: %v", diff)
	}
	if result := field(reloads[0], "outcome", "result"); result != "failure" {
		t.Errorf("a refused configuration: %v", result)
	}
	if cause := field(stops[0], "correlation", "causation_id"); cause != starts[0]["id"] {
		t.Errorf("the end names %v and not its start", cause)
	}
	page, err := log.List(context.Background(), audit.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range page.Items {
		for _, no := range []string{"boss@", "hush"} {
			if strings.Contains(string(row.Bytes), no) {
				t.Errorf("%q is in the bytes of an event", no)
			}
		}
	}
}

func TestSettingOnRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key, value string
		want       any
	}{
		{"smtp/max_recipients", "500", "500"},
		{"health/http", `[{"url":"https://u:pw@h.example/p?key=k&x=1","name":"x"}]`, `[{"url":"https://h.example/p?…","name":"x"}]`},
		{"evidence/store", "s3://b/p?endpoint=https://s3.example.net&object_lock=compliance", "s3://b/p?endpoint=https://s3.example.net&object_lock=compliance"},
		{"relay/recipients/ours.example", "/etc/x@y", "(not on record)"},
		{"alerts/from", "soc@ours.example", audit.Personal("soc@ours.example")},
		{"phishing/people", `["Erika Muster"]`, audit.Personal(`["Erika Muster"]`)},
	} {
		if got := settingOnRecord(c.key, c.value); got != c.want {
			t.Errorf("%s: %v, want %v", c.key, got, c.want)
		}
	}
}

// lives are the events of an action, the newest first.
func lives(t *testing.T, log *audit.Log, action string) (out []map[string]any) {
	t.Helper()
	page, err := log.List(context.Background(), audit.Filter{Action: action, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range page.Items {
		out = append(out, row.Fields())
	}
	return out
}

func field(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		x, _ := v.(map[string]any)
		v = x[p]
	}
	return v
}
