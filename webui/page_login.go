package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/text/language"

	"mailward/identity"
)

// loginView is the login form. What was wrong is said in one way for every
// cause, so that it tells nobody which accounts exist.
type loginView struct {
	Email, Next string
	Wrong       string
	Until       time.Time // locked out until then
	Passkeys    bool
	Providers   []identity.SSO
}

func queryEscape(s string) string { return url.QueryEscape(s) }

const minPassword = 12

func (s *pages) getLogin(c echo.Context) error {
	if s.person(c) != nil {
		return c.Redirect(http.StatusSeeOther, ownPath(c.QueryParam("next")))
	}
	p := s.frame(c, "")
	s.flash(c, p)
	return s.render(c, http.StatusOK, loginPage(p, s.loginWays(loginView{Next: ownPath(c.QueryParam("next"))})))
}

func (s *pages) postLogin(c echo.Context) error {
	v := loginView{Email: short(c.FormValue("email")), Next: ownPath(c.FormValue("next"))}
	token, who, err := s.accounts.Login(c.Request().Context(), v.Email, c.FormValue("password"), clientIP(c), c.Request().UserAgent())
	var throttled throttledError
	var second *identity.SecondFactorError
	switch {
	case err == nil:
		s.setSession(c, token)
		if who.MustChangePassword {
			return c.Redirect(http.StatusSeeOther, "/password")
		}
		return c.Redirect(http.StatusSeeOther, v.Next)
	case errors.As(err, &second):
		setCookie(c, s.stepCookie(), second.Step, stepAge, s.secure)
		return c.Redirect(http.StatusSeeOther, "/login/second?next="+url.QueryEscape(v.Next))
	case errors.As(err, &throttled):
		v.Until = throttled.Until
		c.Response().Header().Set("Retry-After", retryAfter(throttled.Until.Sub(s.now())))
		return s.render(c, http.StatusTooManyRequests, loginPage(s.frame(c, ""), s.loginWays(v)))
	case errors.Is(err, errBadCredentials):
		p := s.frame(c, "")
		v.Wrong = p.T("login.wrong")
		return s.render(c, http.StatusUnauthorized, loginPage(p, s.loginWays(v)))
	}
	return s.fail(c, http.StatusInternalServerError, err)
}

func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64(d/time.Second)+1), 10)
}

func (s *pages) postLogout(c echo.Context) error {
	elsewhere, err := s.accounts.Logout(c.Request().Context(), s.person(c), s.publicURL+"/login")
	if err != nil {
		return s.fail(c, http.StatusInternalServerError, err)
	}
	s.clearSession(c)
	if elsewhere != "" {
		p := s.frame(c, "")
		c.Response().Header().Set("Refresh", "0; url="+elsewhere)
		return s.render(c, http.StatusOK, leavePage(p, elsewhere))
	}
	return s.done(c, "flash.signed_out", "/login")
}

// passwordView is the form for a new password.
type passwordView struct {
	Forced          bool
	WrongOld, Wrong string
}

func (s *pages) getPassword(c echo.Context) error {
	p := s.frame(c, "")
	return s.render(c, http.StatusOK, passwordPage(p, passwordView{Forced: p.User.MustChangePassword}))
}

func (s *pages) postPassword(c echo.Context) error {
	p := s.frame(c, "")
	v := passwordView{Forced: p.User.MustChangePassword}
	old, fresh := c.FormValue("old"), c.FormValue("new")
	switch {
	case len([]rune(fresh)) < minPassword:
		v.Wrong = p.T("password.short", minPassword)
	case len(fresh) > 512:
		v.Wrong = p.T("password.long")
	case fresh != c.FormValue("again"):
		v.Wrong = p.T("password.differ")
	case fresh == old:
		v.Wrong = p.T("password.same")
	}
	if v.Wrong == "" {
		err := s.accounts.ChangePassword(c.Request().Context(), p.User, old, fresh)
		var throttled throttledError
		switch {
		case err == nil:
			// A cookie that somebody has copied ends with the old password.
			if wrong, err := s.confirm(c, p.User, fresh); err != nil || wrong != "" {
				s.log.Warn("the cookie was not renewed with the password", "wrong", wrong, "error", err)
			}
			return s.done(c, "flash.password", "/")
		case errors.Is(err, errBadCredentials):
			v.WrongOld = p.T("password.old.wrong")
		case errors.As(err, &throttled):
			v.WrongOld = p.T("login.locked", p.Full(throttled.Until))
		case errors.Is(err, errWeakPassword):
			v.Wrong = p.T("password.weak")
		default:
			return s.fail(c, http.StatusInternalServerError, err)
		}
	}
	return s.render(c, http.StatusUnprocessableEntity, passwordPage(p, v))
}

// confirm checks the password once more, for an act that needs it. It returns
// the key of what was wrong.
func (s *pages) confirm(c echo.Context, v *Person, password string) (string, error) {
	token, err := s.accounts.Confirm(c.Request().Context(), v, password)
	var throttled throttledError
	switch {
	case err == nil:
		s.setSession(c, token)
		return "", nil
	case errors.Is(err, errBadCredentials):
		return "act.wrong.password", nil
	case errors.As(err, &throttled):
		return "act.wrong.locked", nil
	case errors.Is(err, context.Canceled):
		return "", err
	}
	return "", err
}

// postPrefs keeps language, look and shortcuts, before a login too. Cookies serve both;
// they say nothing about the person.
func (s *pages) postPrefs(c echo.Context) error {
	theme, locale := c.FormValue("theme"), c.FormValue("lang")
	const year = 365 * 24 * time.Hour
	if slices.Contains([]string{"light", "dark", "system"}, theme) {
		setCookie(c, themeCookie, theme, year, s.secure)
	} else {
		theme = ""
	}
	if slices.ContainsFunc(languages, func(t language.Tag) bool { return t.String() == locale }) {
		setCookie(c, langCookie, locale, year, s.secure)
	} else {
		locale = ""
	}
	if keys := oneOf(c.FormValue("keys"), "on", "off"); keys != "" {
		setCookie(c, keysCookie, keys, year, s.secure)
	}
	if space, there := c.Request().PostForm["space"]; there && len(space) == 1 && len(space[0]) <= 36 {
		setCookie(c, spaceCookie, space[0], year, s.secure) // what is not theirs counts for nothing
	}
	if v := s.person(c); v != nil && (theme != "" || locale != "") {
		if err := s.accounts.Preferences(c.Request().Context(), v, locale, theme); err != nil {
			s.log.Warn("preferences not stored", "error", err) // the cookie has them
		}
	}
	next := ownPath(c.FormValue("next"))
	if given := c.FormValue("next"); given == "/login" || strings.HasPrefix(given, "/login?") {
		u, err := url.Parse(given) // before a login, back to the login
		if err == nil {
			next = "/login?" + url.Values{"next": {ownPath(u.Query().Get("next"))}}.Encode()
		}
	}
	return c.Redirect(http.StatusSeeOther, next)
}
