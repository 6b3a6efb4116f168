package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/policy"
	"mailward/quarantine"
)

// entriesView is the list of allow and block entries.
type entriesView struct {
	Query, Kind, Match, State string
	Link                      listLink
	Items                     []policy.Entry
	Groups                    map[uuid.UUID]string
}

func (v entriesView) filtered() bool {
	return v.Query != "" || v.Kind != "" || v.Match != "" || v.State != "active"
}

func wordOptions(p *frame, group string, values ...string) (out []option) {
	for _, v := range values {
		out = append(out, option{v, p.T(group + "." + v)})
	}
	return out
}

func oneOf(v string, list ...string) string {
	if slices.Contains(list, v) {
		return v
	}
	return ""
}

func (s *pages) getEntries(c echo.Context) error {
	q, who, ctx := c.QueryParams(), s.person(c), c.Request().Context()
	v := entriesView{Query: short(q.Get("q")), Kind: oneOf(q.Get("kind"), policy.EntryAllow, policy.EntryBlock), Match: oneOf(q.Get("match"), policy.Matches()...), State: "active", Groups: map[uuid.UUID]string{}}
	if st := oneOf(q.Get("state"), "ended", "all"); st != "" {
		v.State = st
	}
	f := policy.EntryFilter{Workspaces: who.Workspaces, Query: v.Query, Kind: v.Kind, Match: v.Match, State: oneOf(v.State, "active", "ended"), Cursor: q.Get("after"), Limit: pageSize}
	set := url.Values{"q": {v.Query}, "kind": {v.Kind}, "match": {v.Match}}
	if v.State != "active" {
		set.Set("state", v.State)
	}
	v.Link = listLink{path: "/policies/entries", set: set, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if f.Cursor == "" {
		v.Link.page = 1
	}
	var err error
	if v.Items, v.Link.next, err = s.policies.ListEntries(ctx, f); err != nil {
		return s.failure(c, err)
	}
	groups, err := s.policies.Groups(ctx, who.Workspaces)
	if err != nil {
		return s.failure(c, err)
	}
	for _, g := range groups {
		v.Groups[g.ID] = g.Name
	}
	p := s.frame(c, "policies")
	if isFragment(c, "results") {
		return s.render(c, http.StatusOK, entriesResults(p, v))
	}
	s.flash(c, p)
	return s.render(c, http.StatusOK, entriesPage(p, v))
}

// scopeText says for whom an entry is.
func (v entriesView) scopeText(p *frame, e policy.Entry) string {
	t := p.T("pol.scope.workspace")
	if e.Domain != "*" {
		t = e.Domain
	}
	if e.Group != uuid.Nil {
		t += " · " + plain(v.Groups[e.Group], 100)
	}
	return t + " · " + p.T("direction."+string(e.Direction))
}

// entryForm is one entry while somebody writes it.
type entryForm struct {
	policy.Entry
	Until    string // date of its end, 2026-12-31
	Wrong    string
	Conflict bool
	Delete   actForm
	Domains  []option
	Groups   []option
	MayWrite bool
	Ended    bool
}

func (f entryForm) action() string {
	if f.ID == uuid.Nil {
		return "/policies/entries/new"
	}
	return "/policies/entries/" + f.ID.String()
}

func (f entryForm) group() string {
	if f.Group == uuid.Nil {
		return ""
	}
	return f.Group.String()
}

// getEntryNew shows an empty form, or one for the sender of a held mail.
func (s *pages) getEntryNew(c echo.Context) error {
	q := c.QueryParams()
	f := entryForm{Entry: policy.Entry{Domain: "*", Direction: policy.Inbound, Kind: policy.EntryBlock, Match: policy.MatchSender, Owner: s.person(c).Email, Classes: []policy.Class{policy.Spam}}}
	if k := oneOf(q.Get("kind"), policy.EntryAllow, policy.EntryBlock); k != "" {
		f.Kind = k
	}
	if m := oneOf(q.Get("match"), policy.Matches()...); m != "" {
		f.Match, f.Value = m, short(q.Get("value"))
	}
	if id, err := uuid.Parse(q.Get("item")); err == nil {
		it, err := s.item(c, id, rightPolicyWrite)
		if err != nil {
			return s.failure(c, err)
		}
		f.Entry = entryFor(f.Entry, it)
	}
	f.Until = s.now().Add(policy.AllowFor).UTC().Format(time.DateOnly)
	return s.showEntry(c, http.StatusOK, f)
}

// entryFor fills a form in for the author of a held mail.
func entryFor(e policy.Entry, it quarantine.Item) policy.Entry {
	_, e.Value = sender(it.HeaderFrom)
	if e.Match != policy.MatchSender || e.Value == "" {
		e.Match, e.Value = policy.MatchSender, it.EnvelopeFrom
		if _, a := sender(it.HeaderFrom); a != "" {
			e.Value = a
		}
	}
	if it.Direction != "" {
		e.Direction = it.Direction
	}
	if slices.Contains(policy.Liftable(), it.Class) {
		e.Classes = []policy.Class{it.Class}
	}
	if slices.Contains(policy.BlockClasses(), it.Class) {
		e.Class = it.Class
	}
	return e
}

func (s *pages) getEntry(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	e, err := s.entry(c, id, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	f := entryForm{Entry: e}
	if e.ExpiresAt != nil {
		f.Until = e.ExpiresAt.UTC().Format(time.DateOnly)
		f.Ended = !e.ExpiresAt.After(s.now())
	}
	return s.showEntry(c, http.StatusOK, f)
}

// entry reads one, where the person has the right.
func (s *pages) entry(c echo.Context, id uuid.UUID, right string) (policy.Entry, error) {
	e, err := s.policies.Entry(c.Request().Context(), id)
	if err == nil && !s.person(c).CanIn(right, e.Workspace) {
		return policy.Entry{}, policy.ErrNotFound
	}
	return e, err
}

func (s *pages) showEntry(c echo.Context, status int, f entryForm) error {
	p := s.frame(c, "policies")
	s.flash(c, p)
	scopes, err := s.scopes(c, p)
	if err != nil {
		return s.failure(c, err)
	}
	f.Domains, f.Groups = []option{{"*", p.T("pol.scope.workspace")}}, []option{{"", p.T("entry.everybody")}}
	for _, o := range scopes {
		if d, is := strings.CutPrefix(o.Value, "domain:"); is {
			f.Domains = append(f.Domains, option{d, d})
		} else if g, is := strings.CutPrefix(o.Value, "group:"); is {
			f.Groups = append(f.Groups, option{g, o.Text})
		}
	}
	f.MayWrite = p.User.Can(rightPolicyWrite)
	return s.render(c, status, entryPage(p, f))
}

// postEntry makes an entry or changes one.
func (s *pages) postEntry(c echo.Context) error {
	params, err := c.FormParams()
	if err != nil {
		return s.failure(c, errBadInput)
	}
	f := entryForm{Until: params.Get("until"), Entry: policy.Entry{Domain: params.Get("domain"), Direction: policy.Direction(params.Get("direction")), Kind: params.Get("kind"),
		Match: params.Get("match"), Value: params.Get("value"), Classes: classesOf(params["classes"]), Class: policy.Class(params.Get("class")), Action: policy.Action(params.Get("action")),
		Owner: strings.ToValidUTF8(params.Get("owner"), ""), Reason: strings.ToValidUTF8(params.Get("reason"), "")}}
	if c.Param("id") != "" {
		id, err := paramID(c)
		if err != nil {
			return s.failure(c, err)
		}
		was, err := s.entry(c, id, rightPolicyWrite)
		if err != nil {
			return s.failure(c, err)
		}
		f.ID, f.Workspace = was.ID, was.Workspace
		if f.Version, err = strconv.ParseInt(params.Get("version"), 10, 64); err != nil {
			return s.failure(c, errBadInput)
		}
	} else if r, ok := s.policies.Lookup("postmaster@" + f.Domain); ok {
		f.Workspace = r.Domain.Workspace
	} else {
		f.Workspace, _ = s.person(c).Target(rightPolicyWrite)
	}
	if f.Workspace == uuid.Nil || !s.person(c).CanIn(rightPolicyWrite, f.Workspace) {
		return s.failure(c, policy.ErrNotFound)
	}
	if g := params.Get("group"); g != "" {
		if f.Group, err = uuid.Parse(g); err != nil {
			return s.failure(c, errBadInput)
		}
	}
	if f.Until != "" {
		day, err := time.Parse(time.DateOnly, f.Until)
		if err != nil {
			f.Wrong = s.frame(c, "").T("entry.wrong.date")
			return s.showEntry(c, http.StatusUnprocessableEntity, f)
		}
		end := day.Add(24*time.Hour - time.Second) // the end of that day, UTC
		f.ExpiresAt = &end
	}
	return s.saveEntry(c, f)
}

func (s *pages) saveEntry(c echo.Context, f entryForm) error {
	stored, err := s.policies.PutEntry(c.Request().Context(), s.person(c).Actor, f.Entry)
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &invalid):
		f.Wrong = invalid.Error()
		return s.showEntry(c, http.StatusUnprocessableEntity, f)
	case errors.Is(err, policy.ErrConflict):
		now, err := s.entry(c, f.ID, rightPolicyWrite)
		if err != nil {
			return s.failure(c, err)
		}
		p := s.frame(c, "")
		f.Version, f.Conflict = now.Version, true
		f.Wrong = p.T("entry.conflict", now.Kind, now.Match, plain(now.Value, 320), plain(now.Reason, 500))
		return s.showEntry(c, http.StatusConflict, f)
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, "flash.entry.saved", "/policies/entries/"+stored.ID.String())
}

// postEntryDelete removes an entry. A reason is required.
func (s *pages) postEntryDelete(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	e, err := s.entry(c, id, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	if form.Wrong != "" {
		return s.showEntry(c, http.StatusUnprocessableEntity, entryForm{Entry: e, Delete: form})
	}
	if err := s.policies.DeleteEntry(c.Request().Context(), s.person(c).Actor, e.Workspace, e.ID, form.Reason); err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.entry.deleted", "/policies/entries")
}

func kindTone(kind string) string {
	if kind == policy.EntryAllow {
		return "ok"
	}
	return "crit"
}

func entryTitle(p *frame, f entryForm) string {
	if f.ID == uuid.Nil {
		return p.T("entry.new")
	}
	return p.T("entry.one")
}

func entryTone(f entryForm) string {
	if f.Conflict {
		return "warn"
	}
	return "crit"
}

func classOptions(p *frame, classes []policy.Class) (out []option) {
	for _, c := range classes {
		out = append(out, option{string(c), p.word("class", string(c))})
	}
	return out
}
