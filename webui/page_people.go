package webui

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/approval"
	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
	"mailward/policy"
)

// registerPeople is the pages of who may do what, and of what waits for a second
// person.
func (s *pages) registerPeople(r router) {
	// Every role has the right: what a person sees there, and what they may decide
	// on, is decided for each request ([mayDecide]).
	r.page(http.MethodGet, "/approvals", rightHealthRead, audit.PageView, s.getApprovals)
	r.page(http.MethodPost, "/approvals/:id/:word", rightHealthRead, "approval.decide", s.postApproval)
	r.page(http.MethodGet, "/users", rightUsersWrite, audit.PageView, s.getUsers)
	r.page(http.MethodPost, "/users", rightUsersWrite, "user.create", s.postUser)
	r.page(http.MethodGet, "/users/:id", rightUsersWrite, audit.PageView, s.getUser)
	r.page(http.MethodPost, "/users/:id/:verb", rightUsersWrite, "user.update", s.postUserAct)
}

const rightUsersWrite = string(identity.UsersWrite)

// approvalsView is the inbox.
type approvalsView struct {
	Query, State, Kind string
	Items              []approval.Request
	Link               listLink
	Signs              bool // words are signed with the person's passkey
	Wrong              string
}

func (v approvalsView) stateOptions(p *frame) (out []option) {
	for _, s := range []string{"requested", "decided", "all"} {
		out = append(out, option{s, p.T("approval.show." + s)})
	}
	return out
}

func (v approvalsView) kindOptions(p *frame) []option {
	out := []option{{"", p.T("approval.kind.all")}}
	for _, k := range approval.Kinds() {
		out = append(out, option{string(k), p.T("approval.kind." + string(k))})
	}
	return out
}

// approvalFilterOf is what a person may see of requests.
func approvalFilterOf(v *Person) approval.Filter {
	p := v.principal
	return approval.Filter{Workspaces: v.Mine, Installation: p.CanInstall(identity.WorkspacesWrite) || p.CanInstall(identity.AuditRead)}
}

func (s *pages) getApprovals(c echo.Context) error { return s.showApprovals(c, http.StatusOK, "") }

func (s *pages) showApprovals(c echo.Context, status int, wrong string) error {
	q := c.QueryParams()
	v := approvalsView{Query: short(q.Get("q")), State: "requested", Wrong: wrong}
	if oneOf(q.Get("state"), "decided", "all") != "" {
		v.State = q.Get("state")
	}
	if slices.Contains(approval.Kinds(), approval.Kind(q.Get("kind"))) {
		v.Kind = q.Get("kind")
	}
	p := s.frame(c, "approvals")
	f := approvalFilterOf(p.User)
	f.Query, f.Kind, f.State, f.Cursor, f.Limit = v.Query, approval.Kind(v.Kind), v.State, q.Get("after"), pageSize
	if f.State == "all" {
		f.State = ""
	}
	got, err := s.people.Approvals().List(c.Request().Context(), f)
	if err != nil {
		return s.failure(c, err)
	}
	v.Items = got.Items
	if v.Signs, err = s.signs(c, p.User); err != nil {
		return s.failure(c, err)
	}
	v.Link = listLink{path: "/approvals", set: url.Values{"q": {v.Query}, "state": {v.State}, "kind": {v.Kind}}, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page")), next: got.Next}
	s.flash(c, p)
	if isFragment(c, "results") {
		return s.render(c, status, approvalResults(p, v))
	}
	return s.render(c, status, approvalsPage(p, v))
}

// approvalText says in one sentence what exactly will happen.
func approvalText(p *frame, r approval.Request) string {
	var d struct {
		Email, Name, Role, Subject, From, Case string
		Recipients, Items                      []string
		approval.RetentionChange
		Item   string `json:"item_id"`
		People int    `json:"people"`
		Hours  int    `json:"request_hours"`
	}
	if json.Unmarshal(r.Detail, &d) != nil {
		return ""
	}
	if r.Kind == approval.Release {
		return p.T("approval.will.release", plain(d.Subject, 200), plain(d.From, 200), plain(strings.Join(d.Recipients, ", "), 1000))
	}
	switch r.Kind {
	case approval.LegalHold:
		return p.T("approval.text.legal_hold", d.Item)
	case approval.ReleaseRule:
		return p.T("approval.text.release_rule", p.word("class", d.Class), d.People, d.Hours, d.KeepDays)
	}
	if r.Kind == approval.Retention && d.Partition != "" {
		return p.T("approval.will.purge", d.Partition)
	} else if r.Kind == approval.Retention {
		return p.T("approval.will.keep", plain(d.Class, 40), d.KeepDays)
	}
	if r.Kind == approval.Export {
		return p.N("approval.will.export", len(d.Items), plain(d.Case, 100), plain(strings.Join(d.Items, ", "), 2000))
	}
	where := r.WorkspaceName
	if r.Workspace == nil {
		where = p.T("user.installation")
	}
	return p.T("approval.will.role_grant", plain(d.Email, 254), p.word("role", d.Role), plain(where, 100))
}

// releaseAsked is what an approver has to know of a release, beside whom it reaches.
type releaseAsked struct {
	Class    policy.Class `json:"class"`
	EndsAt   *time.Time   `json:"request_ends_at"`
	Insisted bool         `json:"insisted"`
	Again    bool         `json:"again"`
}

// releaseAskedOf reads it; nil: the request is none for a release.
func releaseAskedOf(r approval.Request) *releaseAsked {
	var a releaseAsked
	if r.Kind != approval.Release || json.Unmarshal(r.Detail, &a) != nil {
		return nil
	}
	return &a
}

// decidable says whether the person may decide on a request: with the right, and
// it is not their own.
func decidable(v *Person, r approval.Request) bool {
	return r.State == "requested" && r.RequestedBy != v.ID && mayDecide(v.principal, r)
}

func (s *pages) postApproval(c echo.Context) error {
	id, err := paramID(c)
	word := c.Param("word")
	if err != nil || word != "approve" && word != "deny" {
		return s.failure(c, approval.ErrNotFound)
	}
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	wrong := form.Wrong
	if wrong == "" {
		if _, wrong, err = s.attest(c); err != nil {
			return s.failure(c, err)
		}
	}
	if wrong != "" {
		return s.showApprovals(c, http.StatusUnprocessableEntity, wrong)
	}
	v := s.person(c)
	_, err = decideRequest(c.Request().Context(), Deps{Identity: s.people, Quarantine: s.releases, Evidence: s.exports}, v.principal, approvalFilterOf(v), id, word == "approve", form.Reason)
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.approval."+word, "/approvals")
}

// usersView is the list of accounts.
type usersView struct {
	Query, State, Role string
	Items              []identity.Account
	Spaces             []identity.Workspace // in which somebody can be given a role
	Link               listLink
	Wrong              string
	Signs              bool // an account with its first role is made with the person's passkey
}

func (v usersView) stateOptions(p *frame) []option {
	out := []option{{"", p.T("user.state.all")}}
	for _, s := range []string{"active", "locked", "disabled"} {
		out = append(out, option{s, p.T("user.state." + s)})
	}
	return out
}

func roleOptions(p *frame, roles []identity.Role, first string) (out []option) {
	if first != "" {
		out = append(out, option{"", first})
	}
	for _, r := range roles {
		out = append(out, option{string(r), p.T("role." + string(r))})
	}
	return out
}

// spaceOptions are the workspaces in which the person gives roles; "" is the
// installation.
func spaceOptions(p *frame, spaces []identity.Workspace, install bool) (out []option) {
	for _, w := range spaces {
		out = append(out, option{w.ID.String(), plain(w.Name, 100)})
	}
	if install && p.User.principal.MayChangeRole(uuid.Nil) {
		out = append(out, option{"", p.T("user.installation")})
	}
	return out
}

// spaces are the open workspaces in which the person may change roles.
func (s *pages) spaces(c echo.Context) ([]identity.Workspace, error) {
	p := s.person(c).principal
	mine, all := p.Workspaces(identity.UsersWrite)
	if all {
		mine = nil
	}
	list, err := s.people.ListWorkspaces(c.Request().Context(), mine)
	return slices.DeleteFunc(list, func(w identity.Workspace) bool { return w.ArchivedAt != nil }), err
}

func (s *pages) getUsers(c echo.Context) error { return s.showUsers(c, http.StatusOK, "") }

func (s *pages) showUsers(c echo.Context, status int, wrong string) (err error) {
	q := c.QueryParams()
	v := usersView{Query: short(q.Get("q")), State: oneOf(q.Get("state"), "active", "locked", "disabled"), Wrong: wrong}
	if identity.ValidRole(identity.Role(q.Get("role"))) {
		v.Role = q.Get("role")
	}
	p := s.frame(c, "users")
	f := s.people.UsersVisibleTo(p.User.principal)
	f.Query, f.State, f.Role, f.Cursor, f.Limit = v.Query, v.State, identity.Role(v.Role), short(q.Get("after")), pageSize
	v.Link = listLink{path: "/users", set: url.Values{"q": {v.Query}, "state": {v.State}, "role": {v.Role}}, size: pageSize, at: f.Cursor, page: pageNumber(q.Get("page"))}
	if v.Items, v.Link.next, err = s.people.ListUsers(c.Request().Context(), f); err != nil {
		return s.failure(c, err)
	}
	if isFragment(c, "results") {
		return s.render(c, status, usersResults(p, v))
	}
	if v.Spaces, err = s.spaces(c); err != nil {
		return s.failure(c, err)
	}
	if v.Signs, err = s.signs(c, p.User); err != nil {
		return s.failure(c, err)
	}
	s.flash(c, p)
	return s.render(c, status, usersPage(p, v))
}

// postUser makes an account with one role.
func (s *pages) postUser(c echo.Context) error {
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	who, p := s.person(c).principal, s.frame(c, "users")
	w, err := uuid.Parse(c.FormValue("workspace"))
	if err != nil || !who.MayChangeRole(w) {
		return s.failure(c, identity.ErrNotFound)
	}
	if form.Wrong != "" {
		return s.showUsers(c, http.StatusUnprocessableEntity, p.T(form.Wrong))
	}
	if wrong, err := s.signOrPassword(c); err != nil || wrong != "" {
		return s.wrongUser(c, p, wrong, err)
	}
	u, waiting, err := s.people.AddUser(c.Request().Context(), who, identity.NewUser{Email: c.FormValue("email"), Name: short(c.FormValue("name")), Password: c.FormValue("first"),
		Roles: []identity.Role{identity.Role(c.FormValue("role"))}, Workspace: w, MustChange: true}, form.Reason)
	if err != nil {
		return s.wrongUser(c, p, "", err)
	}
	if len(waiting) > 0 {
		return s.done(c, "flash.user.waiting", "/users/"+u.ID.String())
	}
	return s.done(c, "flash.user.saved", "/users/"+u.ID.String())
}

func (s *pages) wrongUser(c echo.Context, p *frame, wrong string, err error) error {
	switch {
	case wrong != "":
		return s.showUsers(c, http.StatusUnprocessableEntity, p.T(wrong))
	case errors.Is(err, identity.ErrExists), errors.Is(err, identity.ErrWeakPassword), errors.Is(err, identity.ErrInvalid):
		text := p.T("user.wrong.input")
		if errors.Is(err, identity.ErrExists) {
			text = p.T("user.wrong.exists")
		}
		return s.showUsers(c, http.StatusUnprocessableEntity, text)
	}
	return s.failure(c, err)
}

// userView is one account.
type userView struct {
	identity.Account
	Spaces []identity.Workspace
	Wrong  string
	StepUp bool
	Signs  bool // roles are given and taken with the person's passkey
}

func (s *pages) getUser(c echo.Context) error { return s.showUser(c, http.StatusOK, "") }

func (s *pages) showUser(c echo.Context, status int, wrong string) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	p, v := s.frame(c, "users"), userView{Wrong: wrong}
	if v.Account, err = s.people.AccountFor(c.Request().Context(), p.User.principal, id); err == nil {
		v.Spaces, err = s.spaces(c)
	}
	if err == nil {
		v.Signs, err = s.signs(c, p.User)
	}
	if err != nil {
		return s.failure(c, err)
	}
	v.StepUp = p.SingleOperator && s.now().Sub(p.User.AuthenticatedAt) > stepUpAge
	s.flash(c, p)
	return s.render(c, status, userPage(p, v))
}

// postUserAct gives or takes a role, or changes whether the account is open. One
// person alone gives the password again for it.
func (s *pages) postUserAct(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	ctx, who := c.Request().Context(), s.person(c).principal
	a, err := s.people.AccountFor(ctx, who, id)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	wrong := form.Wrong
	if wrong == "" {
		sure := s.stepUp
		if c.Param("verb") == "grant" || c.Param("verb") == "revoke" {
			sure = s.signOrPassword
		}
		if wrong, err = sure(c); err != nil {
			return s.failure(c, err)
		}
		ctx = c.Request().Context() // with the signature
	}
	if wrong != "" {
		return s.showUser(c, http.StatusUnprocessableEntity, s.frame(c, "users").T(wrong))
	}
	w, err := uuid.Parse(c.FormValue("workspace"))
	if err != nil && c.FormValue("workspace") != "" {
		return s.failure(c, identity.ErrNotFound)
	}
	change := identity.RoleChange{User: a.ID, Workspace: w, Role: identity.Role(c.FormValue("role")), Reason: form.Reason}
	message := "flash.user.saved"
	switch verb := c.Param("verb"); {
	case verb == "state" && who.MaySetState(a) && oneOf(c.FormValue("state"), "active", "disabled") != "":
		err = s.people.SetState(pg.WithReason(ctx, form.Reason), who.Actor(), a.ID, c.FormValue("state"))
	case verb == "grant" && who.MayChangeRole(w):
		var waiting bool
		if waiting, err = s.people.GrantRole(ctx, who, change); waiting {
			message = "flash.user.waiting"
		}
	case verb == "revoke" && who.MayChangeRole(w):
		err = s.people.RevokeRole(ctx, who, change)
	default:
		err = identity.ErrNotFound
	}
	if errors.Is(err, identity.ErrLastAdmin) || errors.Is(err, identity.ErrInvalid) {
		p := s.frame(c, "users")
		text := p.T("user.wrong.input")
		if errors.Is(err, identity.ErrLastAdmin) {
			text = p.T("user.wrong.last")
		}
		return s.showUser(c, http.StatusConflict, text)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, message, "/users")
}

func approvalTone(state string) string {
	if state == "approved" {
		return "t-ok"
	}
	return "t-crit"
}

func accountTone(state string) string {
	if state == "active" {
		return "t-ok"
	}
	return "t-crit"
}

func grantPlace(p *frame, g identity.Grant) string {
	if g.Workspace == nil {
		return p.T("user.installation")
	}
	return plain(g.WorkspaceName, 100)
}

func grantSpace(g identity.Grant) uuid.UUID {
	if g.Workspace == nil {
		return uuid.Nil
	}
	return *g.Workspace
}

func grantSpaceValue(g identity.Grant) string {
	if g.Workspace == nil {
		return ""
	}
	return g.Workspace.String()
}
