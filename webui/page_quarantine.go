package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/gateway/ledger"
	"mailward/policy"
	"mailward/quarantine"
)

// itemView is one held mail, as the drawer and its own page show it.
type itemView struct {
	quarantine.Item
	Tab        string // one of itemTabs
	As         string // text or html, of the tab message
	Dialog     string // release, delete or raw: open at once, without a script
	Base       string // address of this view; tabs are added to it
	Drawer     bool
	Link       listLink
	Acts       []act
	Body       *bodyView
	Four       string
	Mode       string // what a release takes
	HasSandbox bool   // one is set up
	StepUp     bool   // the password has to be given again
	CanHold    bool   // legal holds can be set here
	// InsistStepUp asks for it where somebody insists on a release that was stopped.
	InsistStepUp bool
	Signs        bool // a release is signed with the person's passkey
	Form         actForm
	Export       exportForm
	CanMail      bool // the mail's row in the ledger may be shown
	Released     []quarantine.ItemRecipient
	Decided      []policy.RecipientDecision // as the ledger has it, with its explanation
	Similar      []quarantine.Likeness
	Cases        incidentLinksView
}

// actForm is what was typed into a dialog, with what was wrong with it.
type actForm struct {
	Reason    string
	Chosen    []string
	Wrong     string // key of a text
	WrongPass string // key of a text
}

// reasonForm reads the form of an act. Wrong says what is wrong with the
// reason, which each act needs (3 to 500 characters); the error is that of a
// body that is no form.
func reasonForm(c echo.Context) (actForm, error) {
	params, err := c.FormParams()
	if err != nil {
		return actForm{}, err
	}
	form := actForm{
		Reason: strings.TrimSpace(strings.ToValidUTF8(params.Get("reason"), "")),
		Chosen: params["recipient"],
	}
	switch n := len([]rune(form.Reason)); {
	case n < 3:
		form.Wrong = "act.wrong.reason"
	case n > 500:
		form.Wrong = "act.wrong.long"
	}
	return form, nil
}

var itemTabs = []string{"message", "headers", "path", "parts", "links", "history"}

func (v itemView) tab(name string) string {
	u, err := url.Parse(v.Base)
	if err != nil {
		return v.Base
	}
	q := u.Query()
	q.Set("tab", name)
	u.RawQuery = q.Encode()
	return u.String()
}

func (v itemView) dialog(name string) string { return "/quarantine/" + v.ID.String() + "?act=" + name }

func (v itemView) chosen(address string) bool {
	return len(v.Form.Chosen) == 0 || slices.Contains(v.Form.Chosen, address)
}

// expires says whether the bytes are still there and for how long.
func (v itemView) expires(p *frame) string {
	if v.BlobRemovedAt != nil {
		return p.T("item.bytes.gone", p.Short(*v.BlobRemovedAt))
	}
	if d := v.ExpiresAt.Sub(p.Now); d > 0 {
		return p.T("item.expires", p.Span(d))
	}
	return p.T("item.expires.now")
}

func (v itemView) hasBytes() bool { return v.BlobRemovedAt == nil }

// item loads one held mail for the person who asks. Mail of a workspace that
// is not theirs is not there.
func (s *pages) item(c echo.Context, id uuid.UUID, right string) (quarantine.Item, error) {
	it, err := s.held.Get(c.Request().Context(), id)
	if err != nil {
		return it, err
	}
	if !s.person(c).CanIn(right, it.Workspace) {
		return quarantine.Item{}, quarantine.ErrNotFound
	}
	return it, nil
}

func (s *pages) itemView(c echo.Context, p *frame, it quarantine.Item, base string) (itemView, error) {
	v := itemView{Item: it, Base: base, Tab: "message", As: "text", CanMail: true, HasSandbox: s.sandbox, CanHold: s.releases != nil}
	if t := c.QueryParam("tab"); slices.Contains(itemTabs, t) {
		v.Tab = t
	}
	if (v.Tab == "headers" || v.Tab == "path") && !p.User.CanIn(rightViewHeaders, it.Workspace) || v.Tab == "history" && !p.User.CanIn(rightAuditRead, it.Workspace) {
		v.Tab = "message"
	}
	if c.QueryParam("as") == "html" {
		v.As = "html"
	}
	var err error
	if v.Four, err = s.held.FourEyes(c.Request().Context()); err != nil {
		return v, err
	}
	if v.Mode, err = s.releaseMode(c.Request().Context(), it, v.Four); err != nil {
		return v, err
	}
	v.StepUp = v.Four == quarantine.SingleOperator && s.now().Sub(p.User.AuthenticatedAt) > stepUpAge
	v.InsistStepUp = it.StoppedAt != nil && s.now().Sub(p.User.AuthenticatedAt) > stepUpAge
	if v.Signs, err = s.signs(c, p.User); err != nil {
		return v, err
	}
	if s.exports != nil && v.mayDownload(p) {
		if v.Export, err = s.exportForm(c, p, it); err != nil {
			return v, err
		}
	}
	for _, r := range it.Recipients {
		if r.State == quarantine.Released {
			v.Released = append(v.Released, r)
		}
	}
	switch v.Tab {
	case "history":
		if v.Acts, err = s.itemActs(c, p, it); err != nil {
			return v, err
		}
	case "message", "headers", "path", "links":
		if v.Body, err = s.body(c, it, v); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (s *pages) getItem(c echo.Context) error {
	return s.showItem(c, http.StatusOK, actForm{}, c.QueryParam("act"))
}

// showItem shows an item's page, with a dialog open when something was wrong
// with what was typed into it.
func (s *pages) showItem(c echo.Context, status int, form actForm, dialog string) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	it, err := s.item(c, id, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "quarantine")
	s.flash(c, p)
	v, err := s.itemView(c, p, it, "/quarantine/"+it.ID.String())
	if err != nil {
		return s.failure(c, err)
	}
	v.Form, v.Dialog = form, dialog
	// An old item may have outlived its mail's row.
	row, _, err := s.mails.Get(c.Request().Context(), it.MailID)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return s.failure(c, err)
	}
	v.Decided = row.Recipients
	if v.Similar, err = s.similar(c, it); err != nil {
		return s.failure(c, err)
	}
	if v.Cases, err = s.incidentsOf(c, it.Workspace, it.MailID); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, status, itemPage(p, v))
}

// reason is what was typed into the dialog that is open again.
func (v itemView) reason(mine bool) string {
	if mine {
		return v.Form.Reason
	}
	return ""
}

// mayRelease and its kin decide which buttons are there at all.
func (v itemView) mayRelease(p *frame) bool {
	return p.User.CanIn(rightRelease, v.Workspace) && len(v.Releasable())+len(v.unknown()) > 0
}

func (v itemView) mayDelete(p *frame) bool {
	return p.User.CanIn(rightDelete, v.Workspace) && v.Deletable() && v.LegalHoldAt == nil
}

// maySandbox says whether the sandbox may be asked now.
func (v itemView) maySandbox(p *frame) bool {
	asked := slices.ContainsFunc(v.Sandbox, func(s quarantine.SandboxPart) bool { return s.DecidedAt == nil })
	return v.HasSandbox && !asked && p.User.CanIn(rightRelease, v.Workspace) && v.hasBytes()
}

// mayRescan says whether the engines may be asked now, and a mistake be reported.
func (v itemView) mayRescan(p *frame) bool {
	return p.User.CanIn(rightRelease, v.Workspace) && v.hasBytes()
}

// lateText says who has a mail that turned out to be malicious, and since when.
func (v itemView) lateText(p *frame) string {
	var who []string
	for _, r := range v.Recipients {
		if r.Gone() && len(who) < namedAddresses {
			who = append(who, p.T("item.late.who", plain(r.Address, 200), p.Span(p.Now.Sub(r.UpdatedAt))))
		}
	}
	if len(who) == 0 {
		return p.T("item.late.kept", p.Short(*v.MaliciousLateAt))
	}
	return p.T("item.late.out", p.Short(*v.MaliciousLateAt), strings.Join(who, ", "))
}

func (v itemView) mayDownload(p *frame) bool {
	return p.User.CanIn(rightDownloadRaw, v.Workspace) && v.hasBytes()
}

// postRelease hands a decision on. What may be released, and to whom, is
// decided in package quarantine, under a lock.
func (s *pages) postRelease(c echo.Context) error {
	it, form, err := s.actInput(c, rightRelease)
	if err != nil {
		return s.failure(c, err)
	}
	req := releaseInputOf(c, form)
	if form.Wrong == "" && len(form.Chosen)+len(req.Others) == 0 {
		form.Wrong = "act.wrong.recipients"
	}
	if form.Wrong == "" {
		form, err = s.signOrStepUp(c, form)
		if err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong == "" && form.WrongPass == "" {
		if form.WrongPass, err = s.insist(c, it); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" || form.WrongPass != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "release")
	}
	v := s.person(c)
	it, err = s.held.Release(c.Request().Context(), v.Actor, v.Roles, it.ID, req)
	if form.Wrong = wrongRelease(err); form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "release")
	}
	if err != nil {
		return s.failure(c, err)
	}
	message := "flash.released"
	if slices.ContainsFunc(it.Recipients, func(r quarantine.ItemRecipient) bool { return r.State == quarantine.ReleaseRequested }) {
		message = "flash.requested"
	}
	return s.done(c, message, "/quarantine/"+it.ID.String())
}

func (s *pages) postDelete(c echo.Context) error {
	it, form, err := s.actInput(c, rightDelete)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong == "" {
		if form.WrongPass, err = s.stepUp(c); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" || form.WrongPass != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "delete")
	}
	v := s.person(c)
	if _, err := s.held.Delete(c.Request().Context(), v.Actor, v.Roles, it.ID, form.Reason); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.deleted", "/quarantine/"+it.ID.String())
}

func (s *pages) postSandbox(c echo.Context) error {
	it, form, err := s.actInput(c, rightRelease)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "sandbox")
	}
	v := s.person(c)
	_, err = s.held.SendToSandbox(c.Request().Context(), v.Actor, v.Roles, it.ID, form.Reason)
	if errors.Is(err, quarantine.ErrNothingToRun) {
		form.Wrong = "act.wrong.sandbox"
		return s.showItem(c, http.StatusUnprocessableEntity, form, "sandbox")
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.sandbox", "/quarantine/"+it.ID.String())
}

// actInput reads the form of an act on an item. A reason is always required.
func (s *pages) actInput(c echo.Context, right string) (quarantine.Item, actForm, error) {
	id, err := paramID(c)
	if err != nil {
		return quarantine.Item{}, actForm{}, err
	}
	it, err := s.item(c, id, right)
	if err != nil {
		return it, actForm{}, err
	}
	form, err := reasonForm(c)
	if err != nil {
		return it, actForm{}, err
	}
	return it, form, nil
}

// signOrStepUp has an act signed where the person has a passkey; that shows who
// they are as well as a password does.
func (s *pages) signOrStepUp(c echo.Context, form actForm) (actForm, error) {
	signed, wrong, err := s.attest(c)
	if err != nil || wrong != "" || signed {
		form.Wrong = wrong
		return form, err
	}
	form.WrongPass, err = s.stepUp(c)
	return form, err
}

// stepUp asks for the password where one person acts alone and did not give it
// a short while ago. It returns the key of what was wrong with it.
func (s *pages) stepUp(c echo.Context) (string, error) {
	ctx := c.Request().Context()
	four, err := s.held.FourEyes(ctx)
	if err != nil {
		return "", err
	}
	v := s.person(c)
	if four != quarantine.SingleOperator || s.now().Sub(v.AuthenticatedAt) <= stepUpAge {
		return "", nil
	}
	return s.confirm(c, v, c.FormValue("password"))
}

// drawer shows an item beside the list.
func (s *pages) drawer(c echo.Context, p *frame, open string, link listLink) (templ.Component, error) {
	id, err := uuid.Parse(open)
	if err != nil {
		return nil, quarantine.ErrNotFound
	}
	it, err := s.item(c, id, rightViewMeta)
	if err != nil {
		return nil, err
	}
	v, err := s.itemView(c, p, it, link.here(open))
	if err != nil {
		return nil, err
	}
	v.Drawer, v.Link = true, link
	return itemDrawer(p, v), nil
}
