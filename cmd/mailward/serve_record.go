package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"mailward/audit"
	"mailward/internal/pg"
)

// lookLimit is for what the record says of the last start.
const lookLimit = 5 * time.Second

// onRecord puts the start of this process on record, and its end where it ends in
// order: whoever reads the record has to see when nothing was recorded, and with which
// version, parts and settings the rest was. A process that was killed leaves no end.
// With the audit away both wait for it, as results of calls do.
func (p *program) onRecord(ctx context.Context, only []string) {
	if p.only = strings.Join(only, ","); p.only == "" {
		p.only = strings.Join(parts, ",")
	}
	start := audit.Event{ID: newID(), Action: audit.LoggingStart, Actor: pg.System("serve", "start")}
	start.Before, start.After = p.lastSettings(ctx), p.settings(p.conf)
	p.note(ctx, start)
	p.onStop(func(ctx context.Context) {
		p.note(ctx, audit.Event{Action: audit.LoggingStop, Actor: pg.System("serve", "stop"), Correlation: audit.Correlation{CausationID: start.ID.String()}})
	})
}

// reloaded puts on record that the configuration was read again; conf is nil where
// it was refused.
func (p *program) reloaded(conf *Config) {
	ctx := context.Background()
	ev := audit.Event{Action: audit.ConfigReload, Actor: pg.System("serve", "SIGHUP")}
	if conf == nil {
		ev.Outcome, ev.OutcomeCode = "failure", "refused"
	} else {
		ev.Before, ev.After = p.lastSettings(ctx), p.settings(*conf)
	}
	p.note(ctx, ev)
}

func (p *program) note(ctx context.Context, ev audit.Event) {
	ev.Retention, ev.Targets = audit.Retention3Years, []audit.Target{{Type: "node", ID: nodeName()}}
	p.audit.RecordLater(ctx, ev)
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// lastSettings are those that this node was started or reloaded with last, for the
// same parts. Where they cannot be read the event shows what is, and not what was.
func (p *program) lastSettings(ctx context.Context) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	page, err := p.audit.List(ctx, audit.Filter{Action: audit.LoggingStart + "," + audit.ConfigReload, Target: nodeName(), Outcome: "success", Limit: 20})
	if err != nil {
		p.log.Warn("settings of the last start not read", "error", err)
		return nil
	}
	for _, row := range page.Items {
		change, _ := row.Fields()["change"].(map[string]any)
		after, _ := change["after"].(map[string]any)
		if after["parts"] != p.only {
			continue
		}
		for k, v := range after {
			after[k] = settingOnRecord(k, fmt.Sprint(v))
		}
		return after
	}
	return nil
}

// maxSettings bounds one event.
const maxSettings = 300

// settings are what is not as it would be without configuration. Secrets are masked.
func (p *program) settings(c Config) map[string]any {
	out := map[string]any{"version": version, "parts": p.only}
	usual, now := flat(DefaultConfig()), flat(c)
	for i, k := range slices.Sorted(maps.Keys(now)) {
		if now[k] == usual[k] {
			continue
		}
		if len(out) == maxSettings {
			out["more"] = fmt.Sprintf("up to %d settings more", len(now)-i)
			break
		}
		out[k] = settingOnRecord(k, now[k])
	}
	return out
}

// flat is a configuration as keys (smtp/listen) and texts. A list is one text. The
// keys have no dots of ours: the audit finds a value that is kept apart by its path.
func flat(c Config) map[string]string {
	out := map[string]string{}
	b, err := yaml.Marshal(c)
	if err != nil {
		return out
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return out
	}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				walk(prefix+"/"+k, x)
			}
		case []any:
			if list, err := json.Marshal(v); err == nil && len(v) > 0 {
				out[prefix[1:]] = string(list)
			}
		case nil:
		default:
			out[prefix[1:]] = fmt.Sprint(v)
		}
	}
	walk("", tree)
	return out
}

var (
	userInfo = regexp.MustCompile(`(https?://)[^/@\s"]*@`)
	webQuery = regexp.MustCompile(`(https?://[^\s"?]*\?)[^\s"]*`)
)

// settingOnRecord is a value as the record keeps it for years: without what may be a
// key in a web address, and what may name a person among the values that can be erased.
func settingOnRecord(key, value string) any {
	value = webQuery.ReplaceAllString(userInfo.ReplaceAllString(value, "$1"), "$1…")
	switch personal := strings.Contains(value, "@") || strings.HasPrefix(key, "phishing/people"); {
	case personal && strings.Contains(key, "."): // a domain's
		return "(not on record)"
	case personal:
		return audit.Personal(value)
	}
	return value
}
