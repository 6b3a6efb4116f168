package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/identity"
)

const rightTokensWrite = string(identity.TokensWrite)

// tokenDays is how long a token made here may live. One that lives for ever is
// made over the API, by somebody who knows why.
var tokenDays = []int{7, 30, 90, 365}

// tokenGraces is for how many hours the old secret of a token may still count.
var tokenGraces = []int{0, 1, 24, 168}

func (s *pages) registerTokens(r router) {
	r.page(http.MethodPost, "/settings/tokens", rightTokensWrite, "token.create", s.postToken)
	r.page(http.MethodPost, "/settings/tokens/:id/rotate", rightTokensWrite, "token.update", s.postTokenRotate)
	r.page(http.MethodPost, "/settings/tokens/:id/revoke", rightAny, "token.update", s.postTokenRevoke)
}

// tokensView is the API tokens that a person may see, and what they can make.
type tokensView struct {
	Items   []identity.APIToken // those that still count first
	May     bool                // make tokens
	Spaces  []identity.Workspace
	Install bool // one for all workspaces
	Wrong   string
}

func (s *pages) tokensView(c echo.Context) (v tokensView, err error) {
	p := s.person(c).principal
	if v.Items, err = s.people.VisibleTokens(c.Request().Context(), p); err != nil {
		return v, err
	}
	now := s.now()
	dead := func(t identity.APIToken) bool {
		return t.RevokedAt != nil || t.ExpiresAt != nil && !t.ExpiresAt.After(now)
	}
	// What ended long ago stands in the record.
	v.Items = slices.DeleteFunc(v.Items, func(t identity.APIToken) bool {
		return dead(t) && now.Sub(t.CreatedAt) > 400*24*time.Hour
	})
	slices.SortStableFunc(v.Items, func(a, b identity.APIToken) int {
		if dead(a) == dead(b) {
			return 0
		}
		if dead(a) {
			return 1
		}
		return -1
	})
	if v.May = p.Can(identity.TokensWrite, uuid.Nil); !v.May {
		return v, nil
	}
	v.Install = p.CanInstall(identity.WorkspacesWrite)
	mine, all := p.Workspaces(identity.TokensWrite)
	if all {
		mine = nil
	}
	v.Spaces, err = s.people.ListWorkspaces(c.Request().Context(), mine)
	v.Spaces = slices.DeleteFunc(v.Spaces, func(w identity.Workspace) bool { return w.ArchivedAt != nil })
	return v, err
}

func (v tokensView) spaceOptions(p *frame) (out []option) {
	for _, w := range v.Spaces {
		out = append(out, option{w.ID.String(), plain(w.Name, 100)})
	}
	if v.Install {
		out = append(out, option{"", p.T("tokens.everywhere")})
	}
	return out
}

func dayOptions(p *frame) (out []option) {
	for _, d := range tokenDays {
		out = append(out, option{strconv.Itoa(d), p.T("tokens.days", d)})
	}
	return out
}

func graceOptions(p *frame) (out []option) {
	for _, h := range tokenGraces {
		out = append(out, option{strconv.Itoa(h), p.N("tokens.grace", h)})
	}
	return out
}

// tokenState is a word for whether a token counts.
func tokenState(p *frame, t identity.APIToken) (key, tone string) {
	switch {
	case t.RevokedAt != nil:
		return "revoked", "t-none"
	case t.ExpiresAt != nil && !t.ExpiresAt.After(p.Now):
		return "expired", "t-none"
	}
	return "active", "t-ok"
}

func tokenPlace(p *frame, v tokensView, t identity.APIToken) string {
	if t.Workspace == nil {
		return p.T("tokens.everywhere")
	}
	for _, w := range v.Spaces {
		if w.ID == *t.Workspace {
			return plain(w.Name, 100)
		}
	}
	return p.spaceName(*t.Workspace)
}

func scopeList(scopes []identity.Right) string {
	var out []string
	for _, r := range scopes {
		out = append(out, string(r))
	}
	return strings.Join(out, ", ")
}

// fresh refuses what gives somebody new power where who they are was shown too
// long ago.
func (s *pages) fresh(c echo.Context) error {
	if s.now().Sub(s.person(c).AuthenticatedAt) > stepUpAge {
		return identity.ErrStepUp
	}
	return nil
}

// postToken makes a token of one's own and shows its secret, this once.
func (s *pages) postToken(c echo.Context) error {
	n, err := s.newToken(c)
	if err == nil {
		err = s.fresh(c)
	}
	var secret string
	var t identity.APIToken
	if err == nil {
		v := s.person(c)
		n.OwnerID = v.ID
		secret, t, err = s.people.CreateToken(c.Request().Context(), v.Actor, n)
	}
	return s.tokenDone(c, secret, t, err)
}

// newToken reads the form.
func (s *pages) newToken(c echo.Context) (n identity.NewToken, err error) {
	params, err := c.FormParams()
	if err != nil {
		return n, errBadInput
	}
	who := s.person(c).principal
	n = identity.NewToken{Name: short(params.Get("name")), Role: identity.Role(params.Get("role"))}
	days, _ := strconv.Atoi(params.Get("days"))
	if n.Name == "" || !slices.Contains(tokenDays, days) {
		return n, identity.ErrInvalid
	}
	n.Expires = s.now().AddDate(0, 0, days)
	for _, r := range params["scope"] {
		if !slices.Contains(identity.Rights(), identity.Right(r)) {
			return n, identity.ErrInvalid
		}
		n.Scopes = append(n.Scopes, identity.Right(r))
	}
	if params.Get("workspace") == "" && who.CanInstall(identity.WorkspacesWrite) {
		return n, nil
	}
	if n.Workspace, err = uuid.Parse(params.Get("workspace")); err != nil || !who.Can(identity.TokensWrite, n.Workspace) {
		return n, identity.ErrNotFound
	}
	return n, nil
}

func (s *pages) postTokenRotate(c echo.Context) error {
	hours, err := strconv.Atoi(c.FormValue("grace"))
	if err != nil || !slices.Contains(tokenGraces, hours) {
		return s.failure(c, errBadInput)
	}
	t, err := s.tokenOf(c.Request().Context(), c)
	if err == nil && t.OwnerID != s.person(c).ID {
		err = identity.ErrNotFound // whoever has the secret acts as the owner
	}
	if err == nil {
		err = s.fresh(c)
	}
	var secret string
	if err == nil {
		secret, err = s.people.RotateToken(c.Request().Context(), s.person(c).Actor, t.ID, time.Duration(hours)*time.Hour)
	}
	return s.tokenDone(c, secret, t, err)
}

func (s *pages) postTokenRevoke(c echo.Context) error {
	t, err := s.tokenOf(c.Request().Context(), c)
	if err == nil {
		err = s.people.RevokeToken(c.Request().Context(), s.person(c).Actor, t.ID)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.token.revoked", "/settings#tokens")
}

// tokenOf is the token of the address, if it is the person's to see.
func (s *pages) tokenOf(ctx context.Context, c echo.Context) (identity.APIToken, error) {
	id, err := paramID(c)
	if err != nil {
		return identity.APIToken{}, err
	}
	return visibleToken(ctx, s.people, s.person(c).principal, id)
}

func (s *pages) tokenDone(c echo.Context, secret string, t identity.APIToken, err error) error {
	switch {
	case errors.Is(err, identity.ErrStepUp):
		return c.Redirect(http.StatusSeeOther, "/confirm?next=%2Fsettings")
	case errors.Is(err, identity.ErrInvalid):
		return s.showSettings(c, http.StatusUnprocessableEntity, "token")
	case err != nil:
		return s.failure(c, err)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return s.render(c, http.StatusOK, tokenPage(s.frame(c, "settings"), t, secret))
}
