package webui

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/quarantine"
)

// ourClasses are the only classes in a preview.
var ourClasses = regexp.MustCompile(`^mw-(removed|link)$`)

// ourImages are the only images: those that came in the mail and that we put
// in ourselves.
var ourImages = regexp.MustCompile(`^data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]*=*$`)

// permitAge is how long a stated reason lets its person look at one mail.
const permitAge = 15 * time.Minute

// purposes are why somebody looks into a mail.
var purposes = []string{"analysis", "release", "request", "test"}

// bodyView is the content of a mail, or why it is not shown.
type bodyView struct {
	Permit    bool   // a reason is on record
	Wrong     string // key of a text: what was wrong with the reason
	Problem   string // key of a text: the content cannot be shown
	Mail      mailView
	Text      string
	FromHTML  bool // the text was taken out of the HTML
	TextCut   bool
	Sanitized string
	Removed   removed
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

// body opens a mail for the tabs that show its content. Headers take a right
// but no stated reason; the body takes both.
func (s *pages) body(c echo.Context, p *frame, it quarantine.Item, tab string) (*bodyView, error) {
	b := &bodyView{}
	if it.BlobRemovedAt != nil {
		b.Problem = "body.gone"
		return b, nil
	}
	cause := ""
	if tab == "message" {
		if !p.User.CanIn(rightViewBody, it.Workspace) {
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
	if tab == "message" {
		s.prepare(p, b)
		s.shown(c, it, cause, "page", nil)
	}
	return b, nil
}

func (s *pages) prepare(p *frame, b *bodyView) {
	b.Text = b.Mail.Text
	if strings.TrimSpace(b.Text) == "" && b.Mail.HTML != "" {
		b.Text, b.FromHTML = plainText(b.Mail.HTML), true
	}
	if r := []rune(b.Text); len(r) > maxText {
		b.Text, b.TextCut = string(r[:maxText]), true
	}
	if b.Mail.HTML == "" {
		return
	}
	clean, gone, err := sanitize(b.Mail.HTML, b.Mail.Inline, func(what string) string { return p.T("preview.image", what) })
	if err != nil { // nested too deep to be a mail: the text view is there
		b.Mail.HTML = ""
		return
	}
	b.Sanitized, b.Removed = clean, gone
}

func (s *pages) open(c echo.Context, it quarantine.Item) (mailView, error) {
	ctx := c.Request().Context()
	raw, err := s.held.Raw(ctx, it)
	if err != nil {
		return mailView{}, err
	}
	defer raw.Close()
	return s.opener.View(ctx, raw)
}

func contentEvent(v *Person, action, phase string, it quarantine.Item) audit.Event {
	return audit.Event{
		Workspace: it.Workspace, Action: action, Phase: phase, Actor: v.Actor, Roles: v.Roles, Retention: audit.Retention3Years,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: it.ID.String(), Label: string(it.Class)}},
		Correlation: audit.Correlation{MailID: it.MailID.String(), ItemID: it.ID.String()},
	}
}

// shown records that content went out, beside the intent that came before it.
func (s *pages) shown(c echo.Context, it quarantine.Item, cause, how string, err error) {
	action := audit.ViewBody
	if how == "raw" {
		action = audit.RawDownload
	}
	ev := contentEvent(s.person(c), action, "result", it)
	ev.Correlation.CausationID, ev.OutcomeCode = cause, how
	if err != nil {
		ev.Outcome, ev.OutcomeDetail = "failure", "the content was not sent to its end"
	}
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
	purpose, reason := c.FormValue("purpose"), short(c.FormValue("reason"))
	back := ownPath(c.FormValue("next"))
	if !strings.HasPrefix(back, "/quarantine") {
		back = "/quarantine/" + it.ID.String() + "?tab=message"
	}
	if !slices.Contains(purposes, purpose) {
		return s.done(c, "", back)
	}
	ev := contentEvent(s.person(c), audit.ViewBody, "intent", it)
	ev.Reason, ev.ReasonCode = reason, purpose
	if err := s.record.Record(c.Request().Context(), ev); err != nil {
		return s.failure(c, fmt.Errorf("record the view: %w", err))
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
	clean, _, err := sanitize(mail.HTML, mail.Inline, func(what string) string { return p.T("preview.image", what) })
	if err != nil {
		return s.failure(c, err)
	}
	s.shown(c, it, cause, "html", nil)
	h := c.Response().Header()
	h.Set("Content-Security-Policy", previewCSP)
	h.Set("Referrer-Policy", "no-referrer")
	return c.Blob(http.StatusOK, "text/html; charset=utf-8", previewDocument(p.T("preview.title"), clean))
}

// postRaw sends the mail as it came, as a file.
func (s *pages) postRaw(c echo.Context) error {
	it, form, err := s.actInput(c, rightDownloadRaw)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "raw")
	}
	ctx := c.Request().Context()
	raw, err := s.held.Raw(ctx, it)
	if err != nil {
		return s.failure(c, err)
	}
	defer raw.Close()
	ev := contentEvent(s.person(c), audit.RawDownload, "intent", it)
	ev.Reason = form.Reason
	if err := s.record.Record(ctx, ev); err != nil {
		return s.failure(c, fmt.Errorf("record the download: %w", err))
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/octet-stream")
	h.Set(echo.HeaderContentDisposition, `attachment; filename="`+it.MailID.String()+`.eml"`)
	c.Response().WriteHeader(http.StatusOK)
	_, err = io.Copy(c.Response(), raw)
	s.shown(c, it, "", "raw", err)
	if err != nil {
		// The status is out already; a broken connection is the only way left
		// to say that the file is not whole.
		panic(http.ErrAbortHandler)
	}
	return nil
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

// sentence says what a preview left out.
func (r removed) sentence(p *frame) string {
	var parts []string
	for _, x := range []struct {
		key string
		n   int
	}{{"scripts", r.Scripts}, {"forms", r.Forms}, {"frames", r.Frames}, {"objects", r.Objects}, {"images", r.Images}, {"links", r.Links}} {
		if x.n > 0 {
			parts = append(parts, p.N("removed."+x.key, x.n))
		}
	}
	if len(parts) == 0 {
		return p.T("removed.nothing")
	}
	return p.T("removed.list", strings.Join(parts, ", "))
}
