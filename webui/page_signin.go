package webui

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
	"mailward/identity/sso"
)

// stepAge is how long a sign-in may be half done in this browser.
const stepAge = 10 * time.Minute

// registerSignIn is the ways in beside a password, and a person's own settings.
func (s *pages) registerSignIn(r router) {
	// What happens here is recorded by package identity.
	r.public(http.MethodGet, "/login/second", "", s.getSecond)
	r.public(http.MethodPost, "/login/second", "", s.postSecond)
	r.public(http.MethodPost, "/login/passkey/begin", "", s.postPasskeyBegin)
	r.public(http.MethodPost, "/login/passkey", "", s.postPasskeyLogin)
	r.public(http.MethodGet, "/login/sso/:provider", "", s.getSSO)
	r.public(http.MethodGet, "/login/sso/:provider/callback", "", s.getSSOCallback)
	r.public(http.MethodPost, "/login/sso/:provider/backchannel", "", s.postBackChannel)
	r.public(http.MethodGet, "/login/sso/:provider/frontchannel", "", s.getFrontChannel)
	r.page(http.MethodGet, "/confirm", rightAny, audit.PageView, s.getConfirm)
	r.page(http.MethodPost, "/confirm", rightAny, audit.StepUp, s.postConfirm)
	r.page(http.MethodPost, "/sign", rightAny, audit.StepUp, s.postSign)
	s.registerSettings(r)
}

func (s *pages) stepCookie() string {
	if s.secure {
		return "__Host-mailward_step"
	}
	return "mailward_step"
}

// ssoCookie ties what providers answer to this browser, for all its tabs.
func (s *pages) ssoCookie() string {
	if s.secure {
		return "__Host-mailward_sso"
	}
	return "mailward_sso"
}

// loginWays are the ways in that the login page offers.
func (s *pages) loginWays(v loginView) loginView {
	if s.ids != nil {
		v.Passkeys, v.Providers = s.ids.PasskeysWork(), s.ids.Providers()
	}
	return v
}

// signInProblem is the last word of the key (signin.wrong.*) for what went wrong while signing in;
// "" means that it is a failure of ours.
func signInProblem(err error) string {
	switch {
	case errors.Is(err, identity.ErrStep):
		return "step"
	case errors.Is(err, identity.ErrPasskey), errors.Is(err, identity.ErrNoPasskeys):
		return "passkey"
	case errors.Is(err, identity.ErrBadCredentials):
		return "code"
	case errors.Is(err, identity.ErrNoRole):
		return "role"
	case errors.Is(err, identity.ErrTaken):
		return "taken"
	case errors.Is(err, identity.ErrOtherPerson):
		return "person"
	case errors.Is(err, sso.ErrUnavailable):
		return "provider"
	case errors.Is(err, sso.ErrRefused), errors.Is(err, sso.ErrInvalid):
		return "refused"
	case errors.Is(err, identity.ErrConfirmed):
		return "there"
	}
	return ""
}

// loginProblem shows what went wrong on the login page.
func (s *pages) loginProblem(c echo.Context, v loginView, err error) error {
	p := s.frame(c, "")
	var throttled *identity.ThrottledError
	if errors.As(err, &throttled) {
		v.Until = throttled.Until
		c.Response().Header().Set("Retry-After", retryAfter(throttled.Until.Sub(s.now())))
		return s.render(c, http.StatusTooManyRequests, loginPage(p, s.loginWays(v)))
	}
	key := signInProblem(err)
	if key == "" {
		return s.fail(c, http.StatusInternalServerError, err)
	}
	s.log.Info("sign-in refused", "error", err)
	v.Wrong = p.T("signin.wrong." + key)
	return s.render(c, http.StatusUnauthorized, loginPage(p, s.loginWays(v)))
}

// secondView is the form for a second factor.
type secondView struct {
	Next, Wrong string
	Until       time.Time
	Passkeys    bool
}

func (s *pages) secondView(c echo.Context) secondView {
	return secondView{Next: ownPath(c.FormValue("next")), Passkeys: s.ids.PasskeysWork()}
}

func (s *pages) getSecond(c echo.Context) error {
	if cookieValue(c, s.stepCookie()) == "" {
		return c.Redirect(http.StatusSeeOther, "/login")
	}
	return s.render(c, http.StatusOK, secondPage(s.frame(c, ""), s.secondView(c)))
}

func (s *pages) postSecond(c echo.Context) error {
	v := s.secondView(c)
	token, _, err := s.ids.FinishLogin(c.Request().Context(), cookieValue(c, s.stepCookie()), c.FormValue("code"), clientIP(c), c.Request().UserAgent())
	var throttled *identity.ThrottledError
	p := s.frame(c, "")
	switch {
	case err == nil:
		setCookie(c, s.stepCookie(), "", -1, s.secure)
		s.setSession(c, token)
		return c.Redirect(http.StatusSeeOther, v.Next)
	case errors.Is(err, identity.ErrStep):
		return s.loginProblem(c, loginView{Next: v.Next}, err)
	case errors.As(err, &throttled):
		v.Until = throttled.Until
		c.Response().Header().Set("Retry-After", retryAfter(throttled.Until.Sub(s.now())))
		return s.render(c, http.StatusTooManyRequests, secondPage(p, v))
	case errors.Is(err, identity.ErrBadCredentials):
		v.Wrong = p.T("signin.wrong.code")
		return s.render(c, http.StatusUnauthorized, secondPage(p, v))
	}
	return s.fail(c, http.StatusInternalServerError, err)
}

// ceremony is what the script gets to ask the browser for a passkey.
type ceremony struct {
	Options any    `json:"options"`
	Step    string `json:"step"`
}

func (s *pages) beginCeremony(c echo.Context, options any, step string, err error) error {
	switch {
	case err == nil:
		return c.JSON(http.StatusOK, ceremony{options, step})
	case errors.Is(err, identity.ErrStepUp):
		return c.NoContent(http.StatusForbidden)
	case errors.Is(err, identity.ErrNoPasskeys), errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrInvalid):
		return c.NoContent(http.StatusConflict)
	}
	var throttled *identity.ThrottledError
	if errors.As(err, &throttled) {
		c.Response().Header().Set("Retry-After", retryAfter(throttled.Until.Sub(s.now())))
		return c.NoContent(http.StatusTooManyRequests)
	}
	s.log.Error("passkey not begun", "path", c.Path(), "error", err)
	return c.NoContent(http.StatusInternalServerError)
}

func (s *pages) postPasskeyBegin(c echo.Context) error {
	options, step, err := s.ids.BeginPasskeyLogin(c.Request().Context())
	return s.beginCeremony(c, options, step, err)
}

func (s *pages) postPasskeyLogin(c echo.Context) error {
	next := ownPath(c.FormValue("next"))
	token, who, err := s.ids.PasskeyLogin(c.Request().Context(), c.FormValue("step"), []byte(c.FormValue("answer")), clientIP(c), c.Request().UserAgent())
	if err != nil {
		return s.loginProblem(c, loginView{Next: next}, err)
	}
	s.setSession(c, token)
	setCookie(c, s.stepCookie(), "", -1, s.secure)
	if who.User.MustChangePassword {
		next = "/password"
	}
	return c.Redirect(http.StatusSeeOther, next)
}

// getSSO sends the browser to a provider. It is a link and no form: a policy for
// forms holds for where they lead to, too.
func (s *pages) getSSO(c echo.Context) error {
	var p identity.Principal
	if v := s.person(c); v != nil {
		p = v.principal
	}
	purpose, next := identity.ForLogin, ownPath(c.QueryParam("next"))
	switch {
	case c.QueryParam("for") == identity.ForConfirm && s.person(c) != nil:
		purpose = identity.ForConfirm
	case c.QueryParam("for") == identity.ForLink && s.person(c) != nil:
		// Whoever could send a browser here could link an account of their own to this one.
		if !fromOurPage(c.Request()) {
			return s.showSettings(c, http.StatusForbidden, "elsewhere")
		}
		purpose, next = identity.ForLink, "/settings"
	}
	address, browser, err := s.ids.StartSSO(c.Request().Context(), c.Param("provider"), purpose, next, cookieValue(c, s.ssoCookie()), p)
	switch {
	case errors.Is(err, identity.ErrNoProvider):
		return s.fail(c, http.StatusNotFound, err)
	case errors.Is(err, identity.ErrStepUp):
		return c.Redirect(http.StatusSeeOther, "/confirm?next=%2Fsettings")
	case err != nil:
		return s.loginProblem(c, loginView{Next: next}, err)
	}
	setCookie(c, s.ssoCookie(), browser, stepAge, s.secure)
	return c.Redirect(http.StatusSeeOther, address)
}

func (s *pages) getSSOCallback(c echo.Context) error {
	var p identity.Principal
	if v := s.person(c); v != nil {
		p = v.principal
	}
	q := c.QueryParams()
	res, err := s.ids.FinishSSO(c.Request().Context(), c.Param("provider"), cookieValue(c, s.ssoCookie()), q.Get("state"), q.Get("code"), q.Get("error"), p, clientIP(c), c.Request().UserAgent())
	if errors.Is(err, identity.ErrNoProvider) {
		return s.fail(c, http.StatusNotFound, err)
	}
	if err != nil && s.person(c) != nil && signInProblem(err) != "" {
		return s.showSettings(c, http.StatusUnprocessableEntity, signInProblem(err))
	}
	if err != nil {
		return s.loginProblem(c, loginView{Next: ownPath(res.Next)}, err)
	}
	if res.Token != "" {
		s.setSession(c, res.Token)
	}
	if res.Purpose == identity.ForLink {
		return s.done(c, "flash.linked", "/settings")
	}
	return c.Redirect(http.StatusSeeOther, ownPath(res.Next))
}

// postBackChannel is called by a provider and not by a browser: no cookie counts
// (Back-Channel Logout 1.0 §2.5, §2.8).
func (s *pages) postBackChannel(c echo.Context) error {
	err := s.ids.BackChannelLogout(c.Request().Context(), c.Param("provider"), c.FormValue("logout_token"))
	switch {
	case err == nil:
		return c.NoContent(http.StatusOK)
	case errors.Is(err, identity.ErrNoProvider):
		return c.NoContent(http.StatusNotFound)
	case errors.Is(err, sso.ErrBusy):
		return c.NoContent(http.StatusTooManyRequests)
	case errors.Is(err, sso.ErrInvalid):
		s.log.Warn("logout token refused", "provider", c.Param("provider"), "error", err)
		return c.JSON(http.StatusBadRequest, map[string]string{"error": "invalid_request"})
	}
	s.log.Error("logout of a provider not done", "provider", c.Param("provider"), "error", err)
	return c.NoContent(http.StatusServiceUnavailable)
}

func (s *pages) getFrontChannel(c echo.Context) error {
	err := s.ids.FrontChannelLogout(c.Request().Context(), c.Param("provider"), c.QueryParam("iss"), c.QueryParam("sid"))
	switch {
	case err == nil:
		return c.NoContent(http.StatusOK)
	case errors.Is(err, identity.ErrNoProvider):
		return c.NoContent(http.StatusNotFound)
	case errors.Is(err, sso.ErrInvalid):
		return c.NoContent(http.StatusBadRequest)
	}
	s.log.Error("logout of a provider not done", "provider", c.Param("provider"), "error", err)
	return c.NoContent(http.StatusServiceUnavailable)
}

// confirmView is the page on which people show again who they are.
type confirmView struct {
	Next, Wrong    string
	Password, TOTP bool
	Passkeys       bool
	Providers      []identity.SSO
}

func (s *pages) confirmView(c echo.Context) (confirmView, error) {
	v := confirmView{Next: ownPath(c.FormValue("next"))}
	p := s.person(c).principal
	f, err := s.ids.Factors(c.Request().Context(), p.User.ID)
	if err != nil {
		return v, err
	}
	v.Password, v.TOTP, v.Passkeys = p.User.HasPassword(), f.TOTP, f.Passkeys > 0 && s.ids.PasskeysWork()
	linked, err := s.ids.Linked(c.Request().Context(), p.User.ID)
	if err != nil {
		return v, err
	}
	for _, prov := range s.ids.Providers() {
		for _, name := range linked {
			if name == prov.Name() {
				v.Providers = append(v.Providers, prov)
			}
		}
	}
	return v, nil
}

func (s *pages) getConfirm(c echo.Context) error {
	v, err := s.confirmView(c)
	if err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, confirmPage(s.frame(c, ""), v))
}

func (s *pages) postConfirm(c echo.Context) error {
	v, err := s.confirmView(c)
	if err != nil {
		return s.failure(c, err)
	}
	ctx, p := c.Request().Context(), s.person(c).principal
	var token string
	switch {
	case c.FormValue("answer") != "":
		token, err = s.ids.ConfirmPasskey(ctx, p, c.FormValue("step"), formAct(c), []byte(c.FormValue("answer")))
	case c.FormValue("code") != "":
		token, err = s.ids.ConfirmCode(ctx, p, c.FormValue("code"))
	default:
		token, err = s.ids.ConfirmPassword(ctx, p, c.FormValue("password"))
	}
	if err == nil {
		s.setSession(c, token)
		return c.Redirect(http.StatusSeeOther, v.Next)
	}
	f := s.frame(c, "")
	var throttled *identity.ThrottledError
	switch key := signInProblem(err); {
	case errors.As(err, &throttled):
		v.Wrong = f.T("login.locked", f.Full(throttled.Until))
	case key != "":
		v.Wrong = f.T("signin.wrong." + key)
	default:
		return s.failure(c, err)
	}
	return s.render(c, http.StatusUnprocessableEntity, confirmPage(f, v))
}

// notSigned are the fields of a form that are no part of what it does, and passwords:
// what is signed stands in the record.
var notSigned = map[string]bool{"step": true, "answer": true, "password": true, "first": true}

// formAct is what a form is about to do, as it is signed.
func formAct(c echo.Context) identity.Act {
	form, err := c.FormParams()
	if err != nil {
		form = url.Values{}
	}
	return newAct(c.Request().URL.Path, form)
}

func newAct(path string, form url.Values) identity.Act {
	a := identity.Act{Path: path, Fields: map[string][]string{}}
	for k, v := range form {
		if !notSigned[k] {
			a.Fields[k] = v
		}
	}
	return a
}

// postSign asks for a signature under a form that is about to be sent: its
// address stands in act, its fields as JSON in fields.
func (s *pages) postSign(c echo.Context) error {
	var form url.Values
	path := c.FormValue("act")
	if err := json.Unmarshal([]byte(c.FormValue("fields")), &form); err != nil || !strings.HasPrefix(path, "/") {
		return c.NoContent(http.StatusBadRequest)
	}
	options, step, err := s.ids.BeginAct(c.Request().Context(), s.person(c).principal, newAct(path, form))
	return s.beginCeremony(c, options, step, err)
}

// signs says whether the person's acts are signed: they have a passkey, and it
// works at our address.
func (s *pages) signs(c echo.Context, v *Person) (bool, error) {
	if s.ids == nil || v == nil || !s.ids.PasskeysWork() {
		return false, nil
	}
	f, err := s.ids.Factors(c.Request().Context(), v.ID)
	return f.Passkeys > 0, err
}

// signOrPassword has an act signed where the person has a passkey, and otherwise asks
// for the password as stepUp does. wrong is the key of what was wrong.
func (s *pages) signOrPassword(c echo.Context) (wrong string, err error) {
	signed, wrong, err := s.attest(c)
	if err != nil || wrong != "" || signed {
		return wrong, err
	}
	return s.stepUp(c)
}

// signAttrs make a form one that is signed.
func signAttrs(p *frame, signs bool) templ.Attributes {
	if !signs {
		return nil
	}
	return templ.Attributes{"data-passkey": "sign", "data-begin": "/sign", "data-failed": p.T("act.wrong.signature")}
}

// attest takes the signature under the act that the form asks for, and notes it
// for the act's event. Whoever has a passkey has to sign; for others the record
// says that only the server attests it. signed tells the two apart, and wrong is
// the key of what was wrong.
func (s *pages) attest(c echo.Context) (signed bool, wrong string, err error) {
	v := s.person(c)
	must, err := s.signs(c, v)
	if err != nil || !must {
		return false, "", err
	}
	if c.FormValue("answer") == "" {
		return false, "act.wrong.unsigned", nil
	}
	r := c.Request()
	a, err := s.ids.SignAct(r.Context(), v.principal, c.FormValue("step"), formAct(c), []byte(c.FormValue("answer")))
	if key := signInProblem(err); key != "" {
		return false, "act.wrong.signature", nil
	}
	if err != nil {
		return false, "", err
	}
	c.SetRequest(r.WithContext(audit.WithAttestation(r.Context(), a)))
	return true, "", nil
}
