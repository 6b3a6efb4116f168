package webui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/internal/pg"
	"mailward/policy"
)

// fakeRecord is an audit in memory; what is recorded can be listed.
type fakeRecord struct {
	mu     sync.Mutex
	events []audit.Event
	rows   []audit.Row
	fail   error
	tamper int
	live   bool // events carry the time of day
	views  []audit.View
}

func (f *fakeRecord) List(_ context.Context, q audit.Filter) (audit.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p audit.Page
	for _, r := range slices.Backward(f.rows) {
		raw := string(r.Bytes)
		m := r.Fields()
		action := text(m, "action")
		prefix, isPrefix := strings.CutSuffix(q.Action, "*")
		if slices.Contains(q.Skip, action) || q.Action != "" && !(action == q.Action || isPrefix && strings.HasPrefix(action, prefix)) || q.Target != "" && !strings.Contains(raw, q.Target) ||
			q.Outcome != "" && text(m, "outcome", "result") != q.Outcome || q.Query != "" && !strings.Contains(raw, q.Query) || q.Actor != "" && !strings.Contains(raw, q.Actor) {
			continue
		}
		p.Items = append(p.Items, r)
	}
	return p, nil
}

func (f *fakeRecord) Record(_ context.Context, ev audit.Event) error {
	if f.fail != nil {
		return f.fail
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
	at := testNow
	if f.live {
		at = time.Now()
	}
	f.add(ev, at)
	return nil
}

func (f *fakeRecord) RecordLater(ctx context.Context, ev audit.Event) { _ = f.Record(ctx, ev) }

// add makes a row of an event. The caller holds the lock.
func (f *fakeRecord) add(ev audit.Event, at time.Time) {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&ev.Outcome, "success")
	set(&ev.Phase, "result")
	targets := []any{}
	for _, t := range ev.Targets {
		targets = append(targets, map[string]any{"type": t.Type, "id": t.ID, "label": t.Label, "value": t.PII})
	}
	eid := uuid.Must(uuid.NewV7())
	m := map[string]any{
		"id": eid.String(), "time": at.Format(time.RFC3339Nano), "action": ev.Action, "phase": ev.Phase,
		"actor":   map[string]any{"type": string(ev.Actor.Type), "id": ev.Actor.UserID.String(), "display": ev.Actor.Display, "email": ev.Actor.Email, "roles": []string{"analyst"}},
		"auth":    map[string]any{"method": "password", "session_id": ev.Actor.SessionID.String()},
		"source":  map[string]any{"ip": "10.20.9.239", "user_agent_class": "Firefox on Linux"},
		"request": map[string]any{"id": "req-1", "method": "POST", "path": "/quarantine/:id/release", "status": 303},
		"outcome": map[string]any{"result": ev.Outcome}, "targets": targets, "reason": map[string]any{"text": ev.Reason, "code": ev.ReasonCode},
		"change":      map[string]any{"before": ev.Before, "after": ev.After},
		"correlation": map[string]any{"mail_id": ev.Correlation.MailID, "item_id": ev.Correlation.ItemID},
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	row := audit.Row{ID: eid, RecordedAt: at, DBRole: "mailward_app", Bytes: b}
	if n := int64(len(f.rows)); n%4 != 3 {
		row.Seq, row.LeafHash = &n, []byte{0xca, 0xfe, byte(n)}
	}
	f.rows = append(f.rows, row)
}

func (f *fakeRecord) Status(context.Context) (audit.Status, error) {
	return audit.Status{Guard: "full", TamperAttempts: f.tamper}, nil
}

func (f *fakeRecord) Findings(context.Context) ([]string, error) { return nil, nil }

func (f *fakeRecord) Retention(context.Context) ([]audit.RetentionClass, error) { return nil, nil }

func (f *fakeRecord) Purgeable(context.Context) ([]audit.Month, error) { return nil, nil }

func (f *fakeRecord) BeginExport(ctx context.Context, ev audit.Event) (audit.Event, error) {
	ev.ID, ev.Phase = uuid.Must(uuid.NewV7()), "intent"
	return ev, f.Record(ctx, ev)
}

func (f *fakeRecord) Export(ctx context.Context, ev audit.Event, sel audit.Selection, w io.Writer) error {
	page, err := f.List(ctx, sel.Filter)
	for _, r := range page.Items {
		if err == nil {
			_, err = fmt.Fprintf(w, "%s,%s\n", r.ID, text(r.Fields(), "action"))
		}
	}
	ev.ID, ev.Phase, ev.After = uuid.Nil, "result", map[string]any{"count": len(page.Items)}
	return errors.Join(err, f.Record(ctx, ev))
}

func (f *fakeRecord) Exports(context.Context, uuid.UUID) ([]audit.ExportJob, error) {
	job := func(n int, format audit.Format, state string, done float64, manifest string) audit.ExportJob {
		return audit.ExportJob{ID: id(n), Format: format, State: state, Written: 12000, Done: done, Manifest: []byte(manifest), Began: testNow}
	}
	return []audit.ExportJob{job(61, audit.OCSF, "running", 0.4, ""), job(62, audit.CSV, "complete", 1, `{"events": 12000, "sha256": "abc", "complete_below_seq": 90000}`), job(63, audit.CEF, "failed", 0.1, "{}"),
		job(64, audit.ECS, "silent", 0.1, "")}, nil
}

func (f *fakeRecord) Views(context.Context, uuid.UUID) ([]audit.View, error) { return f.views, nil }

func (f *fakeRecord) SaveView(_ context.Context, _ pg.Actor, name, query string) error {
	f.views = append(f.views, audit.View{ID: id(70 + len(f.views)), Name: name, Query: query})
	return nil
}

func (f *fakeRecord) DeleteView(_ context.Context, _ pg.Actor, view uuid.UUID) error {
	n := len(f.views)
	if f.views = slices.DeleteFunc(f.views, func(v audit.View) bool { return v.ID == view }); len(f.views) == n {
		return audit.ErrNotFound
	}
	return nil
}

func (f *fakeRecord) Workspaces(context.Context, []uuid.UUID) ([]audit.Workspace, error) {
	return []audit.Workspace{{ID: id(1), Name: "Ours"}, {ID: id(2), Name: "Theirs"}}, nil
}

func seedRecord(f *fakeRecord, who *Person) {
	actor := who.Actor
	item := audit.Correlation{ItemID: id(2).String(), MailID: id(501).String()}
	target := []audit.Target{{Type: "quarantine_item", ID: id(2).String(), Label: "phishing"}}
	f.add(audit.Event{Action: audit.ItemCreate, Actor: pg.System("gateway", "mail"), Targets: target, Correlation: item}, testNow.Add(-7*time.Minute))
	f.add(audit.Event{Action: audit.Login, Actor: actor, Targets: []audit.Target{{Type: "session", ID: id(901).String()}}}, testNow.Add(-6*time.Minute))
	f.add(audit.Event{Action: audit.LoginFailed, Outcome: "failure", Actor: pg.Actor{Type: pg.ActorAnonymous}, Targets: []audit.Target{{Type: "user", PII: "j.keller@ours.example"}}}, testNow.Add(-5*time.Minute))
	f.add(audit.Event{Action: "policy.update", Actor: actor, Reason: "Fewer false positives on payroll mails, agreed in SEC-2291", Targets: []audit.Target{{Type: "policy", ID: id(31).String(), Label: "ours.example"}},
		Before: map[string]any{"domain": "ours.example", "version": 3, "actions": map[string]any{"spam": "tag", "dlp": "quarantine"}}, After: map[string]any{"domain": "ours.example", "version": 4, "actions": map[string]any{"spam": "quarantine", "dlp": "quarantine"}}}, testNow.Add(-4*time.Minute))
	f.add(audit.Event{Action: audit.ReleaseExecute, Phase: "intent", Actor: actor, Reason: "verified by phone " + hostileSubject, Targets: target, Correlation: item}, testNow.Add(-3*time.Minute))
	f.add(audit.Event{Action: audit.ReleaseResult, Actor: pg.System("delivery", "release"), Targets: target, Correlation: item}, testNow.Add(-3*time.Minute))
	f.add(audit.Event{Action: audit.GuardViolation, Outcome: "refused", Actor: pg.Actor{Type: pg.ActorDatabase, Display: "postgres"}, Targets: []audit.Target{{Type: "audit", ID: "event"}}}, testNow.Add(-2*time.Minute))
	f.add(audit.Event{Action: "domain.create", Actor: actor, Targets: []audit.Target{{Type: "domain", ID: id(41).String(), Label: "fabrikam.example"}}, After: map[string]any{"name": "fabrikam.example", "next_hop": "10.0.0.5:25"}}, testNow.Add(-time.Minute))
}

func testMails() []ledger.Row {
	var out []ledger.Row
	quarterly := testItems()[0]
	quarterly.Subject, quarterly.MailID = "Quarterly report", id(700)
	for n, it := range append(testItems(), quarterly) {
		r := ledger.Row{ID: it.MailID, Workspace: it.Workspace, ReceivedAt: it.ReceivedAt, ClientIP: it.ClientIP, Helo: it.Helo, TLS: "TLS 1.3", EnvelopeFrom: it.EnvelopeFrom, HeaderFrom: it.HeaderFrom, Subject: it.Subject,
			MessageID: "<abc@sender.example>", Size: it.Size, SHA256: it.SHA256, Class: it.Class, Action: policy.Quarantine, Score: it.Score, Findings: it.Findings, Engines: it.Engines, ScanMS: 48,
			Recipients: []policy.RecipientDecision{{Address: it.Recipients[0].Address, Action: policy.Quarantine, Why: "malware is quarantined"}}}
		if n%3 == 0 {
			r.Class, r.Action, r.Findings, r.Recipients[0].Action = policy.Clean, policy.Deliver, nil, policy.Deliver
		}
		out = append(out, r)
	}
	return out
}
