package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/preview"
)

// permitAge is how long a stated reason lets its person look at one mail.
const permitAge = 15 * time.Minute

// maxText is how many characters of a text are shown.
const maxText = 400_000

// purposes are why somebody looks into a mail.
var purposes = []string{"analysis", "release", "request", "test"}

// bodyView is the content of a mail, or why it is not shown.
type bodyView struct {
	Permit   bool   // a reason is on record
	Problem  string // key of a text: the content cannot be shown
	Mail     mailView
	Text     string
	FromHTML bool // the text was taken out of the HTML
	TextCut  bool
	Removed  preview.Removed
	Links    []preview.Link
	Hops     []preview.Hop
	Query    string // searched for in the header
	Fields   []headerField
}

// permit looks for the record of this person's reason. The record is the
// permit: there is no other place where it is kept, so nothing is shown that
// is not on record first, by whichever process.
func (s *pages) permit(c echo.Context, it quarantine.Item) (string, error) {
	v := s.person(c)
	page, err := s.record.List(c.Request().Context(), audit.Filter{
		Workspaces: []uuid.UUID{it.Workspace}, Actor: v.ID.String(), Action: audit.ViewBody, Target: it.ID.String(), From: s.now().Add(-permitAge), Limit: 50,
	})
	if err != nil {
		return "", fmt.Errorf("look for the permit: %w", err)
	}
	for _, row := range page.Items {
		f := row.Fields()
		if text(f, "phase") == "intent" && text(f, "outcome", "result") == "success" && text(f, "auth", "session_id") == v.Actor.SessionID.String() {
			return row.ID.String(), nil
		}
	}
	return "", nil
}

// body opens a mail for the tabs that show its content. Header and path take a
// right but no stated reason; words and links take both.
func (s *pages) body(c echo.Context, it quarantine.Item, v itemView) (*bodyView, error) {
	b := &bodyView{}
	if it.BlobRemovedAt != nil {
		b.Problem = "body.gone"
		return b, nil
	}
	cause, content := "", v.Tab == "message" || v.Tab == "links"
	if content {
		if !s.person(c).CanIn(rightViewBody, it.Workspace) {
			b.Problem = "body.noright"
			return b, nil
		}
		var err error
		if cause, err = s.permit(c, it); err != nil || cause == "" {
			return b, err
		}
		b.Permit = true
	}
	mail, err := s.open(c, it)
	if err != nil {
		s.log.Warn("mail cannot be shown", "mail", it.MailID, "error", err)
		b.Problem = "body.unsafe"
		if errors.Is(err, quarantine.ErrGone) {
			b.Problem = "body.gone"
		}
		return b, nil
	}
	b.Mail = mail
	switch v.Tab {
	case "message":
		b.prepare(v.As)
	case "links":
		b.Links = linksOf(mail)
	case "headers":
		b.Query = short(c.QueryParam("h"))
		b.Fields = matching(mail.Headers, b.Query)
	case "path":
		b.Hops = s.path(it, mail.Headers)
	}
	if content {
		s.shown(c, it, cause, map[string]string{"message": "page", "links": "links"}[v.Tab])
	}
	return b, nil
}

// prepare makes the words, and counts what the frame will leave out.
func (b *bodyView) prepare(as string) {
	if as == "html" && b.Mail.HTML != "" {
		b.Removed = preview.HTML(b.Mail.HTML, preview.Options{Images: imagesOf(b.Mail)}).Removed
		return
	}
	b.Text, b.FromHTML, b.TextCut = wordsOf(b.Mail)
}

// wordsOf is the text of a mail, its addresses defanged.
func wordsOf(m mailView) (text string, fromHTML, cut bool) {
	text = preview.DefangText(m.Text)
	if strings.TrimSpace(text) == "" && m.HTML != "" {
		fromHTML = true
		text, cut = preview.Text(m.HTML)
	}
	if r := []rune(text); len(r) > maxText {
		text, cut = string(r[:maxText]), true
	}
	return text, fromHTML, cut
}

func (s *pages) open(c echo.Context, it quarantine.Item) (mailView, error) {
	return s.view(c.Request().Context(), it)
}

func (s *pages) view(ctx context.Context, it quarantine.Item) (mailView, error) {
	raw, err := s.held.Raw(ctx, it)
	if err != nil {
		return mailView{}, err
	}
	defer raw.Close()
	return s.opener.View(ctx, raw)
}

// lookEvent is the record of somebody who sees a mail's content.
func lookEvent(actor pg.Actor, roles []string, action string, it quarantine.Item) audit.Event {
	return audit.Event{
		Workspace: it.Workspace, Action: action, Phase: "intent", Actor: actor, Roles: roles, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: it.ID.String(), Label: string(it.Class)}},
		Correlation: audit.Correlation{MailID: it.MailID.String(), ItemID: it.ID.String()},
	}
}

func partEvent(ev audit.Event, part policy.Part) audit.Event {
	ev.Targets = append(ev.Targets, audit.Target{Type: "mail_part", ID: part.SHA256, Label: part.Path})
	return ev
}

// begin commits the intent to look. Without it nothing is shown.
func (s *pages) begin(ctx context.Context, ev audit.Event, purpose, reason string) (audit.Event, error) {
	ev.ReasonCode, ev.Reason = purpose, reason
	var err error
	if ev.ID, err = uuid.NewV7(); err == nil {
		err = s.record.Record(ctx, ev)
	}
	if err != nil {
		return ev, fmt.Errorf("record %s: %w", ev.Action, err)
	}
	return ev, nil
}

// ended records what became of an intent.
func (s *pages) ended(ctx context.Context, ev audit.Event, how string, err error) {
	ev.Correlation.CausationID, ev.ID, ev.Phase, ev.OutcomeCode = ev.ID.String(), uuid.Nil, "result", how
	if err != nil {
		ev.Outcome, ev.OutcomeDetail = "failure", "the content could not be shown"
	}
	s.record.RecordLater(context.WithoutCancel(ctx), ev)
}

// shown records that content went out, beside the intent that came before it.
func (s *pages) shown(c echo.Context, it quarantine.Item, cause, how string) {
	ev := lookEvent(s.person(c).Actor, s.person(c).Roles, audit.ViewBody, it)
	ev.Phase, ev.Correlation.CausationID, ev.OutcomeCode = "result", cause, how
	s.record.RecordLater(c.Request().Context(), ev)
}

// postView writes down why somebody wants to see a mail, and only then shows
// it. If that cannot be written, it is not shown.
func (s *pages) postView(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	it, err := s.item(c, id, rightViewBody)
	if err != nil {
		return s.failure(c, err)
	}
	back := ownPath(c.FormValue("next"))
	if !strings.HasPrefix(back, "/quarantine") {
		back = "/quarantine/" + it.ID.String() + "?tab=message"
	}
	purpose, reason, ok := purposeInput(c)
	if !ok {
		return s.done(c, "", back)
	}
	if _, err := s.begin(c.Request().Context(), lookEvent(s.person(c).Actor, s.person(c).Roles, audit.ViewBody, it), purpose, reason); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "", back)
}

// getPreview is the document inside the frame.
func (s *pages) getPreview(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	it, err := s.item(c, id, rightViewBody)
	if err != nil {
		return s.failure(c, err)
	}
	cause, err := s.permit(c, it)
	if err != nil {
		return s.failure(c, err)
	}
	if cause == "" { // no reason on record, or too long ago
		return s.fail(c, http.StatusForbidden, nil)
	}
	p := s.frame(c, "quarantine")
	mail, err := s.open(c, it)
	if err != nil {
		return s.failure(c, err)
	}
	clean := preview.HTML(mail.HTML, previewOptions(mail, p.lang))
	s.shown(c, it, cause, "html")
	h := c.Response().Header()
	h.Set("Content-Security-Policy", previewCSP)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-DNS-Prefetch-Control", "off")
	return c.Blob(http.StatusOK, "text/html; charset=utf-8", preview.Document(p.T("preview.title"), clean.HTML))
}

// as is the address of the other view of the body.
func (v itemView) as(kind string) string {
	u, err := url.Parse(v.tab("message"))
	if err != nil {
		return v.Base
	}
	q := u.Query()
	q.Set("as", kind)
	u.RawQuery = q.Encode()
	return u.String()
}
