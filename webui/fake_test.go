package webui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/health"
	"mailward/internal/aezip"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
)

var testNow = time.Date(2026, 11, 24, 9, 41, 30, 0, time.UTC)

// What a stranger may put into a mail to hurt the person who looks at it.
const (
	hostileSubject = `"><img src=x onerror=alert(1)> invoice`
	rtlSubject     = "Please read \u202egpj.exe"
	badUTF8        = "broken \xff\xfe bytes"
)

var longSender = strings.Repeat("a", 4096) + "@sender.example"

func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("019ab000-0000-7000-8000-%012d", n)) }

// fakeHeld is a quarantine in memory.
type fakeHeld struct {
	mu    sync.Mutex
	items []quarantine.Item
	mode  string
	fail  error
	last  quarantine.ReleaseRequest

	record  *fakeRecord // where releases are put on record; may be nil
	deliver bool        // a scheduled release is done by the time that somebody looks
}

func (f *fakeHeld) match(q quarantine.Filter, classes bool) []quarantine.Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []quarantine.Item
	for _, it := range f.items {
		text := strings.ToLower(it.Subject + it.HeaderFrom + it.ID.String() + it.MailID.String() + strings.Join(it.Addresses(), " "))
		if q.Query != "" && !strings.Contains(text, strings.ToLower(q.Query)) ||
			q.States != nil && !slices.Contains(q.States, it.State) ||
			classes && q.Classes != nil && !slices.Contains(q.Classes, it.Class) ||
			!q.From.IsZero() && it.ReceivedAt.Before(q.From) {
			continue
		}
		out = append(out, it)
	}
	return out
}

func (f *fakeHeld) List(_ context.Context, q quarantine.Filter) (quarantine.Page, error) {
	if f.fail != nil {
		return quarantine.Page{}, f.fail
	}
	out := f.match(q, true)
	var p quarantine.Page
	if q.Cursor != "" {
		at := slices.IndexFunc(out, func(it quarantine.Item) bool { return it.ID.String() == q.Cursor })
		if at < 0 {
			return p, quarantine.ErrBadCursor
		}
		out = out[at+1:]
	}
	if len(out) > q.Limit && q.Limit > 0 {
		out = out[:q.Limit]
		p.Next = out[len(out)-1].ID.String()
	}
	p.Items = out
	return p, nil
}

func (f *fakeHeld) ListAndCount(ctx context.Context, q quarantine.Filter) (quarantine.Page, quarantine.Counts, error) {
	p, err := f.List(ctx, q)
	if err != nil {
		return p, quarantine.Counts{}, err
	}
	n, err := f.Count(ctx, q)
	return p, n, err
}

func (f *fakeHeld) Count(_ context.Context, q quarantine.Filter) (quarantine.Counts, error) {
	c := quarantine.Counts{Classes: map[policy.Class]int{}, Total: len(f.match(q, true))}
	for _, it := range f.match(q, false) {
		c.Classes[it.Class]++
	}
	return c, f.fail
}

func (f *fakeHeld) Get(_ context.Context, want uuid.UUID) (quarantine.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, it := range f.items {
		if it.ID != want {
			continue
		}
		for i, r := range it.Recipients {
			if f.deliver && r.State == quarantine.ReleaseScheduled {
				it.Recipients[i].State, it.Recipients[i].ReplyCode, it.Recipients[i].ReplyText = quarantine.Released, 250, "2.0.0 Ok: queued as 4ZkP1"
			}
		}
		return it, nil
	}
	return quarantine.Item{}, quarantine.ErrNotFound
}

func (f *fakeHeld) Raw(context.Context, quarantine.Item) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("Subject: raw\r\n\r\nbody\r\n")), nil
}

func (f *fakeHeld) set(want uuid.UUID, to quarantine.State, recipients []string) (quarantine.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.items {
		if f.items[i].ID != want {
			continue
		}
		f.items[i].Recipients = slices.Clone(f.items[i].Recipients)
		for n, r := range f.items[i].Recipients {
			if recipients == nil || slices.Contains(recipients, r.Address) {
				f.items[i].Recipients[n].State = to
			}
		}
		f.items[i].State = to
		return f.items[i], nil
	}
	return quarantine.Item{}, quarantine.ErrNotFound
}

func (f *fakeHeld) Release(ctx context.Context, actor pg.Actor, _ []string, want uuid.UUID, req quarantine.ReleaseRequest) (quarantine.Item, error) {
	f.last = req
	if f.record != nil {
		ev := audit.Event{Action: audit.ReleaseExecute, Phase: "intent", Actor: actor, Reason: req.Reason, Targets: []audit.Target{{Type: "quarantine_item", ID: want.String()}}, Correlation: audit.Correlation{ItemID: want.String()}}
		if err := f.record.Record(ctx, ev); err != nil {
			return quarantine.Item{}, err
		}
	}
	if f.mode == quarantine.Required {
		return f.set(want, quarantine.ReleaseRequested, req.Recipients)
	}
	return f.set(want, quarantine.ReleaseScheduled, req.Recipients)
}

func (f *fakeHeld) Delete(_ context.Context, _ pg.Actor, _ []string, want uuid.UUID, _ string) (quarantine.Item, error) {
	return f.set(want, quarantine.Deleted, nil)
}

func (f *fakeHeld) SendToSandbox(ctx context.Context, _ pg.Actor, _ []string, id uuid.UUID, _ string) (quarantine.Item, error) {
	return f.Get(ctx, id)
}

func (f *fakeHeld) FourEyes(context.Context) (string, error) { return f.mode, nil }

// fakeOpener shows one mail that tries everything.
type fakeOpener struct{ fail error }

const nastyHTML = `<html><body><h1>Your password expires today</h1><script>document.title='owned'</script>
<style>body{background:url(http://tracker.example/s)}</style>
<img src="http://tracker.example/p.gif" width="160" height="42" onerror="alert(1)"><img src="cid:logo">
<p style="position:fixed;color:red;background-image:url(http://x.example/)" onclick="x()">Click <a href="http://login.evil.example/verify?a=1" target="_blank">here</a></p>
<form action="http://login.evil.example/"><input type="password" name="pw"><button>Go</button></form>
<iframe src="http://x.example"></iframe><object data="x"></object><svg onload="alert(1)"></svg><base href="http://x/"><meta http-equiv="refresh" content="0;url=http://x"><a href="javascript:alert(1)">js</a></body></html>`

func (f fakeOpener) View(context.Context, io.Reader) (mailView, error) {
	return mailView{
		Headers: []headerField{{"From", "IT <it@sender.example>", "From: =?utf-8?q?IT?=\r\n <it@sender.example>\r\n"}, {"Subject", rtlSubject, ""}, {"X-Bad", badUTF8, "X-Bad: " + badUTF8 + "\r\n"},
			{"received", "from relay.sender.example ([198.51.100.9]) by mx.bank.example with ESMTPS; Tue, 24 Nov 2026 01:00:00 +0000", ""}},
		Text: "Dear colleague,\n\nyour password expires today. \u202egnp.exe\n", HTML: nastyHTML,
		Inline: []inlineImage{{CID: "<logo>", ContentType: "image/png", Data: []byte("\x89PNG\r\n\x1a\n")}},
	}, f.fail
}

func (f fakeOpener) Part(_ context.Context, _ io.Reader, sum string) ([]byte, error) {
	if sum != strings.Repeat("cd", 32) {
		return nil, scanner.ErrNoPart
	}
	return []byte("the file"), f.fail
}

func (f fakeOpener) Zip(_ context.Context, name string, raw io.Reader, at time.Time) ([]byte, error) {
	b, err := io.ReadAll(raw)
	if err != nil {
		return nil, err
	}
	return aezip.Pack(name, b, at)
}

// fakeMails is a ledger in memory.
type fakeMails struct {
	rows  []ledger.Row
	empty bool
}

func (f fakeMails) Coverage(_ context.Context, _ []uuid.UUID, _, to time.Time) ([]ledger.Gap, error) {
	return []ledger.Gap{{Engine: "clamav", From: to.Add(-3 * time.Hour), To: to.Add(-2 * time.Hour), Mails: 14, PutOff: 11, Held: 2, Rejected: 1}}, nil
}

func (f fakeMails) Stats(_ context.Context, _ []uuid.UUID, from, to time.Time, step time.Duration) ([]ledger.Bucket, error) {
	var out []ledger.Bucket
	for at := from; at.Before(to); at = at.Add(step) {
		b := ledger.Bucket{At: at}
		if !f.empty {
			wave := 1 + math.Sin(float64(at.Unix())/9000)
			scale := step.Minutes() / 30
			b.Delivered, b.Quarantined = int(wave*140*scale), int(wave*14*scale)
			b.Rejected, b.Deferred, b.Threats = int(wave*22*scale), int(wave*wave*3*scale), int(wave*9*scale)
			b.Total, b.ScanP95MS = b.Delivered+b.Quarantined+b.Rejected+b.Deferred, 80+wave*60
		}
		out = append(out, b)
	}
	return out, nil
}

func (f fakeMails) List(_ context.Context, q ledger.Filter) (ledger.Page, error) {
	var p ledger.Page
	for _, r := range f.rows {
		if (q.Query == "" || strings.Contains(strings.ToLower(r.Subject), strings.ToLower(q.Query))) && (q.Actions == nil || slices.Contains(q.Actions, r.Action)) {
			p.Items = append(p.Items, r)
		}
	}
	return p, nil
}

func (f fakeMails) Get(_ context.Context, want uuid.UUID) (ledger.Row, []ledger.Outcome, error) {
	for _, r := range f.rows {
		if r.ID == want {
			return r, []ledger.Outcome{{MailID: want, Recipient: r.Recipients[0].Address, State: ledger.Relayed, NextHop: "10.0.0.5:25", Code: 250, Text: "2.0.0 queued as 1A2B", At: r.ReceivedAt}}, nil
		}
	}
	return ledger.Row{}, nil, ledger.ErrNotFound
}

// fakeMonitor has seen an hour.
type fakeMonitor struct{ bad, live bool }

func (f fakeMonitor) Check(context.Context) health.Report { return f.Latest() }

func (f fakeMonitor) Latest() health.Report {
	good := testNow.Add(-3 * time.Minute)
	c := func(name, title, group string, st health.State, code, reason string, facts map[string]string) health.Status {
		return health.Status{Name: name, Title: title, Group: group, State: st, Code: code, Reason: reason, Since: testNow.Add(-50 * time.Hour), CheckedAt: testNow, LatencyMS: 3.2, Facts: facts, LastGood: &good}
	}
	r := health.Report{At: testNow, State: health.Degraded, DurationMS: 41, Components: []health.Status{
		c("postgresql", "PostgreSQL", "stores", health.Up, "", "PostgreSQL 15.14 answers; decisions and acts are recorded.", map[string]string{"version": "15.14", "connections": "9", "connections_max": "100"}),
		c("redis", "Redis", "stores", health.Up, "", "Redis answers; limits are counted together by all processes.", nil),
		c("clamav", "ClamAV", "engines", health.Degraded, "test_signatures", "ClamAV runs on a test set that knows only the EICAR test file. Mail flows, but this is no protection against real malware. Install clamav-freshclam, let it fetch the signatures, and restart.", map[string]string{"version": "ClamAV 1.4.3", "signatures": "test set", "signature_age_hours": "2"}),
		c("scanner", "Scanner", "engines", health.Up, "", "The scanner answers and has just scanned a test message.", map[string]string{"version": "libyara 4.5.2", "rules": "24"}),
		c("smtp", "SMTP server", "delivery", health.Up, "", "The SMTP server takes connections.", nil),
		c("next_hop:10.0.0.5:25", "Next hop 10.0.0.5:25", "next_hop", health.Up, "", "The next hop 10.0.0.5:25 greets us.", map[string]string{"address": "10.0.0.5:25"}),
		c("audit", "Audit", "audit", health.Up, "", "Events are recorded and numbered; the guard is complete.", map[string]string{"last_seq": "4811"}),
	}}
	if f.live {
		r.At = time.Now()
	}
	if f.bad {
		r.State = health.Down
		r.Components[0].State, r.Components[0].Code, r.Components[0].Detail = health.Down, "unreachable", "dial unix /run/.s.PGSQL.5432: connect: no such file or directory"
		r.Components[1].State, r.Components[1].Code, r.Components[1].Reason = health.Unknown, "unchecked", "Redis has not been checked yet."
	}
	return r
}

func (f fakeMonitor) History(name string) health.History {
	var h health.History
	for i := range 1200 {
		st := health.Up
		if name == "clamav" && i > 700 {
			st = health.Degraded
		}
		if name == "next_hop:10.0.0.5:25" && i > 380 && i < 420 {
			st = health.Down
		}
		h.Samples = append(h.Samples, health.Sample{At: testNow.Add(time.Duration(i-1200) * 2 * time.Second), State: st, LatencyMS: 4 + 3*math.Sin(float64(i)/7) + float64(i%5)})
	}
	return h
}

func (fakeMonitor) Read(_ context.Context, _ string, from time.Time, slot, span time.Duration) (map[string][]health.Slot, error) {
	out := map[string][]health.Slot{}
	for i := range int(span / slot) {
		s := health.Slot{At: from.Add(time.Duration(i) * slot), Checks: 30, Good: 30, Worst: health.Up, P50: 3, P95: 6 + float64(i%7)}
		if i%40 == 20 {
			s.Good, s.Bad, s.Worst = 10, 20, health.Down
		}
		out["clamav"], out["postgresql"] = append(out["clamav"], s), append(out["postgresql"], s)
	}
	return out, nil
}

func (fakeMonitor) Changes(context.Context, string, int) ([]health.Changed, error) {
	return []health.Changed{{At: testNow.Add(-time.Hour), Node: "mx1", Before: health.Down, State: health.Up, Reason: "ClamAV answers; <b>mail</b> flows."}}, nil
}

// fakeAccounts knows one person.
type fakeAccounts struct{ person *Person }

const testPassword = "correct horse battery"

func (f *fakeAccounts) Login(_ context.Context, email, password string, _ netip.Addr, _ string) (string, *Person, error) {
	switch {
	case email == "locked@ours.example":
		return "", nil, throttledError{Until: testNow.Add(5 * time.Minute)}
	case email != f.person.Email || password != testPassword:
		return "", nil, errBadCredentials
	}
	return "token", f.person, nil
}

func (f *fakeAccounts) Logout(context.Context, *Person, string) (string, error) { return "", nil }

func (f *fakeAccounts) Confirm(_ context.Context, p *Person, password string) (string, error) {
	if password != testPassword {
		return "", errBadCredentials
	}
	p.AuthenticatedAt = testNow
	return "token", nil
}

func (f *fakeAccounts) ChangePassword(_ context.Context, p *Person, old, _ string) error {
	if old != testPassword {
		return errBadCredentials
	}
	p.MustChangePassword = false
	return nil
}

func (f *fakeAccounts) Preferences(context.Context, *Person, string, string) error { return nil }

// site is the pages over fakes, with a session that a test sets.
type site struct {
	*pages
	echo     *echo.Echo
	held     *fakeHeld
	record   *fakeRecord
	accounts *fakeAccounts
	queue    *fakeQueue
	leaks    *fakeLeaks
	rules    *fakeRules
	routes   []string
}

func (s *site) page(method, path, right, _ string, h echo.HandlerFunc) {
	s.routes = append(s.routes, method+" "+path)
	s.echo.Add(method, path, func(c echo.Context) error {
		v := s.pages.person(c)
		if v == nil {
			return c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(c.Request().URL.RequestURI()))
		}
		if right != "" && !v.Can(right) {
			return s.fail(c, http.StatusForbidden, nil)
		}
		return h(c)
	})
}

func (s *site) public(method, path, _ string, h echo.HandlerFunc) { s.echo.Add(method, path, h) }

func allRights(string, uuid.UUID) bool { return true }

func newSite(t testing.TB) *site {
	t.Helper()
	catalog, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	who := &Person{ID: id(900), Email: "s.lang@ours.example", Name: "Sofia Lang", Role: "admin", AuthenticatedAt: testNow, Roles: []string{"admin"},
		Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Mine: []uuid.UUID{policy.DefaultWorkspace}, AuditAll: true, can: allRights, Actor: pg.Actor{Type: pg.ActorUser, UserID: id(900), Email: "s.lang@ours.example", Display: "Sofia Lang", SessionID: id(901)}}
	s := &site{held: &fakeHeld{items: testItems(), mode: quarantine.SingleOperator}, record: &fakeRecord{}, queue: &fakeQueue{items: testDeliveries()}, leaks: newFakeLeaks(), rules: newFakeRules(), accounts: &fakeAccounts{person: who}, echo: echo.New()}
	seedRecord(s.record, who)
	s.pages = &pages{
		host: "mx.ours.example", smtpAddr: "127.0.0.1:2525", sandbox: true, log: slog.New(slog.DiscardHandler), now: func() time.Time { return testNow },
		assets: newAssets(), catalog: catalog, accounts: s.accounts, held: s.held, opener: fakeOpener{}, mails: fakeMails{rows: testMails()}, queue: s.queue, leaks: s.leaks, rules: s.rules, record: s.record, monitor: fakeMonitor{},
		setSession: func(c echo.Context, token string) {
			c.SetCookie(&http.Cookie{Name: "mailward_session", Value: token, Path: "/", HttpOnly: true})
		},
		clearSession: func(c echo.Context) { c.SetCookie(&http.Cookie{Name: "mailward_session", Path: "/", MaxAge: -1}) },
		person: func(c echo.Context) *Person {
			if cookieValue(c, "mailward_session") == "" {
				return nil
			}
			return s.accounts.person
		},
	}
	s.echo.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			setSecurityHeaders(c, false)
			return next(c)
		}
	})
	s.echo.HTTPErrorHandler = func(err error, c echo.Context) {
		status := http.StatusInternalServerError
		if he, ok := err.(*echo.HTTPError); ok {
			status = he.Code
		}
		_ = s.fail(c, status, err)
	}
	s.register(s)
	return s
}

func testItems() []quarantine.Item {
	finding := func(engine, name string, class policy.Class, score float64, reason string) []policy.Finding {
		return []policy.Finding{{Engine: engine, Name: name, Class: class, Score: score, Reason: reason, Part: "1.2", PartName: "Rechnung\u202efdp.js", Meta: map[string]string{"author": "Mailward", "reference": "https://rules.example/1", "strings": "$a:" + strings.Repeat("0x4711,", 60)}}}
	}
	engines := []policy.EngineAnswer{
		{Engine: "clamav", Version: "ClamAV 1.4.3", Database: "27810", DatabaseTime: testNow.Add(-5 * time.Hour), Answered: true, DurationMS: 34},
		{Engine: "yara", Version: "4.5.2", Database: "24 rules " + strings.Repeat("9f", 32), Answered: true, DurationMS: 12, Cached: true},
	}
	type seed struct {
		class         policy.Class
		from, subject string
		state         quarantine.State
		to            []string
		f             []policy.Finding
	}
	malware := finding("clamav", "Win.Trojan.Emotet-9953123", policy.Malware, 30, "The attachment carries a known trojan.")
	phish := finding("yara", "credential_harvest_form", policy.Phishing, 14.2, "A form asks for a password and sends it to another site.")
	seeds := []seed{
		{policy.Suspicious, "Erika <erika@sender.example>", "Invoice 4711", quarantine.Quarantined, []string{"bob@ours.example", "carol@ours.example"}, finding("yara", "double_extension", policy.Suspicious, 8, "The name of the attachment has two extensions.")},
		{policy.Phishing, "IT Support <it@sender.example>", "Password expires today", quarantine.Quarantined, []string{"bob@ours.example"}, phish},
		{policy.Malware, "Erika <erika@sender.example>", "Your parcel", quarantine.Quarantined, []string{"bob@ours.example"}, malware},
		{policy.Malware, `"Li Wei" <purchase@globaltrade-ltd.example>`, "RE: PO 77120 revised quotation", quarantine.Quarantined, []string{"info@northwind.example"}, malware},
		{policy.Phishing, `DocuSign <no-reply@docusign-secure-mail.example>`, "Action required: Review and sign “Q4 bonus agreement.pdf”", quarantine.Quarantined, []string{"it-helpdesk@ours.example", "buchhaltung@ours.example", "k.vogel@ours.example"}, phish},
		{policy.Suspicious, `Scanner 3. OG <scan@druckerei-nord.example>`, "Scan vom 21.11.2026", quarantine.Held, []string{"m.fischer@northwind.example"}, finding("yara", "macro_dropper", policy.Suspicious, 8, "A macro starts a program when the document is opened.")},
		{policy.Phishing, `Microsoft 365 Support <it-support@m1crosoft.example>`, "Your password expires in 24 hours", quarantine.Released, []string{"l.schmidt@ours.example"}, phish},
		{policy.Malware, `Spedition Hoffmann <buero@spedition.example>`, "Rechnung 2026-118834 – Mahnung", quarantine.OutcomeUnknown, []string{"t.wagner@ours.example"}, malware},
		{policy.DLP, `Markus Schneider <m.schneider@kanzlei.example>`, "Vertragsentwurf (vertraulich)", quarantine.ReleaseRequested, []string{"s.hoffmann@ours.example"}, nil},
		{policy.Malware, `x@y.example`, hostileSubject, quarantine.Quarantined, []string{"bob@ours.example"}, malware},
		{policy.Phishing, longSender, rtlSubject, quarantine.Failed, []string{"bob@ours.example"}, phish},
		{policy.Unscannable, badUTF8, badUTF8, quarantine.Deleted, []string{"bob@ours.example"}, nil},
		{policy.Spam, `SuperDeal <news@superdeal-angebote.example>`, "Nur heute: 80 % Rabatt auf Solarmodule", quarantine.Quarantined, []string{"p.krause@ours.example"}, nil},
		{policy.Encrypted, `Dr. Katrin Vogel (CEO) <ceo.office@gmail.example>`, "", quarantine.Expired, []string{"hr@ours.example"}, nil},
	}
	var out []quarantine.Item
	for n := range 3*(len(seeds)-3) + 3 {
		// The first three are those of the end-to-end test and come last here,
		// once, so that the others keep their ids.
		sd := seeds[n%(len(seeds)-3)+3]
		if n >= 3*(len(seeds)-3) {
			sd = seeds[n-3*(len(seeds)-3)]
		}
		at := testNow.Add(-time.Duration(n*7) * time.Minute)
		it := quarantine.Item{ID: id(n + 1), MailID: id(n + 500), Workspace: policy.DefaultWorkspace, Class: sd.class, State: sd.state, Score: 31.7 - float64(n%11)*2.1, ReceivedAt: at, ExpiresAt: at.Add(30 * 24 * time.Hour),
			ClientIP: "166.125.196.79", Helo: "mail.docusign-secure.example", HeaderFrom: sd.from, EnvelopeFrom: "bounce@sender.example", Subject: sd.subject, Size: 48_213,
			Auth:   json.RawMessage(`[{"method":"spf","result":"softfail","domain":"sender.example"},{"method":"dkim","result":"fail","domain":"docusign.example","reason":"body hash <b>differs</b>"}]`),
			SHA256: strings.Repeat("9f86d081884c7d65", 4), Findings: sd.f, Engines: engines, Reasons: []string{"clamav found Win.Trojan.Emotet-9953123"},
			Parts: []policy.Part{{Path: "1.1", ContentType: "text/html", Size: 1800, SHA256: strings.Repeat("ab", 32)}, {Path: "1.2", Name: "Rechnung\u202efdp.js", ContentType: "application/pdf", TrueType: "text/javascript", Size: 41_000, Disposition: "attachment", SHA256: strings.Repeat("cd", 32)}}}
		for i, a := range sd.to {
			r := quarantine.ItemRecipient{ID: id(2000 + n*10 + i), Address: a, State: sd.state, UpdatedAt: at}
			if sd.state == quarantine.Released {
				r.ReplyCode, r.ReplyText = 250, "2.0.0 Ok: queued as 4ZkP1"
			}
			if sd.state == quarantine.Failed {
				r.ReplyCode, r.ReplyText = 550, "5.1.1 no such user"
			}
			it.Recipients = append(it.Recipients, r)
		}
		if sd.state == quarantine.Deleted || sd.state == quarantine.Expired {
			gone := at.Add(time.Hour)
			it.BlobRemovedAt = &gone
		}
		if n == 0 {
			decided := at.Add(4 * time.Minute)
			it.Sandbox = []quarantine.SandboxPart{
				{SHA256: strings.Repeat("cd", 32), Name: "Rechnung\u202efdp.js", Path: "1.2", State: "finished", Verdict: policy.SandboxMalicious, Score: 9.4, Family: "Emotet<b>", Since: at, Deadline: at.Add(15 * time.Minute), DecidedAt: &decided,
					Signatures: []quarantine.SandboxSignature{{Name: "inject", Description: "It writes into another <i>process</i>.", Severity: 3}}},
				{SHA256: strings.Repeat("ef", 32), Name: "b.docm", Path: "1.3", State: "given_up", Error: "no answer in time", Since: at, Deadline: at.Add(15 * time.Minute), DecidedAt: &decided},
			}
		}
		out = append(out, it)
	}
	return out
}
