package webui

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"mailward/audit"
	"mailward/identity"
)

func (s *pages) registerSettings(r router) {
	r.page(http.MethodGet, "/settings", rightAny, audit.PageView, s.getSettings)
	s.registerTokens(r)
	r.page(http.MethodPost, "/settings/totp", rightAny, "totp.create", s.postTOTP)
	r.page(http.MethodGet, "/settings/totp", rightAny, audit.PageView, s.getTOTP)
	r.page(http.MethodPost, "/settings/totp/confirm", rightAny, "totp.update", s.postTOTPConfirm)
	r.page(http.MethodPost, "/settings/totp/remove", rightAny, "totp.delete", s.postTOTPRemove)
	r.page(http.MethodPost, "/settings/passkeys/begin", rightAny, "passkey.create", s.postPasskeyAddBegin)
	r.page(http.MethodPost, "/settings/passkeys", rightAny, "passkey.create", s.postPasskeyAdd)
	r.page(http.MethodPost, "/settings/passkeys/:id/remove", rightAny, "passkey.delete", s.postPasskeyRemove)
	r.page(http.MethodPost, "/settings/links/:provider/remove", rightAny, "external_identity.delete", s.postUnlink)
	r.page(http.MethodPost, "/settings/recovery", rightAny, audit.MFAChange, s.postRecovery)
	r.page(http.MethodPost, "/settings/sessions/others", rightAny, audit.SessionRevoke, s.postRevokeOthers)
	r.page(http.MethodPost, "/settings/sessions/:id/revoke", rightAny, audit.SessionRevoke, s.postRevoke)
}

// settingsView is a person's own account.
type settingsView struct {
	Wrong        string // last word of signin.wrong.*
	HasPassword  bool
	Factors      identity.Factors
	PasskeysWork bool
	Passkeys     []identity.Passkey
	Sessions     []identity.SessionInfo
	This         uuid.UUID
	Linked       []string
	Linkable     []identity.SSO
	Fresh        bool // who they are was shown a moment ago
	Tokens       tokensView
}

func (s *pages) getSettings(c echo.Context) error { return s.showSettings(c, http.StatusOK, "") }

func (s *pages) settingsView(c echo.Context) (v settingsView, err error) {
	ctx, p := c.Request().Context(), s.person(c).principal
	v = settingsView{HasPassword: p.User.HasPassword(), PasskeysWork: s.ids.PasskeysWork(), This: p.SessionID, Fresh: s.now().Sub(p.AuthenticatedAt) <= stepUpAge}
	if v.Factors, err = s.ids.Factors(ctx, p.User.ID); err != nil {
		return v, err
	}
	if v.Passkeys, err = s.ids.Passkeys(ctx, p.User.ID); err != nil {
		return v, err
	}
	if v.Sessions, err = s.ids.Sessions(ctx, p.User.ID); err != nil {
		return v, err
	}
	if v.Linked, err = s.ids.Linked(ctx, p.User.ID); err != nil {
		return v, err
	}
	if v.Tokens, err = s.tokensView(c); err != nil {
		return v, err
	}
	for _, prov := range s.ids.Providers() {
		if !slices.Contains(v.Linked, prov.Name()) {
			v.Linkable = append(v.Linkable, prov)
		}
	}
	return v, nil
}

func (s *pages) showSettings(c echo.Context, status int, wrong string) error {
	v, err := s.settingsView(c)
	if err != nil {
		return s.failure(c, err)
	}
	v.Wrong = wrong
	p := s.frame(c, "settings")
	s.flash(c, p)
	return s.render(c, status, settingsPage(p, v))
}

// settled answers a change of one's own account.
func (s *pages) settled(c echo.Context, err error, message string) error {
	key := signInProblem(err)
	switch {
	case err == nil:
		return s.done(c, message, "/settings")
	case errors.Is(err, identity.ErrStepUp):
		return c.Redirect(http.StatusSeeOther, "/confirm?next=%2Fsettings")
	case errors.Is(err, identity.ErrNotFound):
		return s.fail(c, http.StatusNotFound, err)
	case errors.Is(err, identity.ErrInvalid):
		key = "name"
	}
	if key == "" {
		return s.failure(c, err)
	}
	return s.showSettings(c, http.StatusUnprocessableEntity, key)
}

// totpView is the secret that waits for its first code.
type totpView struct {
	Secret, Wrong string
	Size          int
	Path          string // of the QR code's dark squares
}

func (s *pages) postTOTP(c echo.Context) error {
	if _, err := s.ids.BeginTOTP(c.Request().Context(), s.person(c).principal); err != nil {
		return s.settled(c, err, "")
	}
	return c.Redirect(http.StatusSeeOther, "/settings/totp")
}

func (s *pages) getTOTP(c echo.Context) error { return s.showTOTP(c, http.StatusOK, "") }

func (s *pages) showTOTP(c echo.Context, status int, wrong string) error {
	key, err := s.ids.PendingTOTP(c.Request().Context(), s.person(c).principal)
	if err != nil {
		return s.settled(c, err, "")
	}
	v := totpView{Secret: grouped(key.Secret()), Wrong: wrong}
	if v.Size, v.Path, err = qrPath(key.String()); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, status, totpPage(s.frame(c, "settings"), v))
}

// grouped writes a secret so that it can be typed.
func grouped(secret string) string {
	var parts []string
	for part := range slices.Chunk([]byte(secret), 4) {
		parts = append(parts, string(part))
	}
	return strings.Join(parts, " ")
}

// qrPath draws a text as a QR code: an SVG path of unit squares, and how many
// there are on a side.
func qrPath(text string) (size int, path string, err error) {
	m, err := qrcode.NewQRCodeWriter().Encode(text, gozxing.BarcodeFormat_QR_CODE, 1, 1, map[gozxing.EncodeHintType]any{gozxing.EncodeHintType_MARGIN: 4})
	if err != nil {
		return 0, "", fmt.Errorf("draw QR code: %w", err)
	}
	var b strings.Builder
	for y := range m.GetHeight() {
		for x := range m.GetWidth() {
			if m.Get(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x, y)
			}
		}
	}
	return m.GetWidth(), b.String(), nil
}

func (s *pages) postTOTPConfirm(c echo.Context) error {
	codes, err := s.ids.ConfirmTOTP(c.Request().Context(), s.person(c).principal, c.FormValue("code"))
	if errors.Is(err, identity.ErrBadCredentials) {
		return s.showTOTP(c, http.StatusUnprocessableEntity, "code")
	}
	return s.enrolled(c, codes, err, "flash.totp")
}

// enrolled shows recovery codes where there are new ones: this once.
func (s *pages) enrolled(c echo.Context, codes []string, err error, message string) error {
	if err != nil || codes == nil {
		return s.settled(c, err, message)
	}
	return s.render(c, http.StatusOK, recoveryPage(s.frame(c, "settings"), codes))
}

func (s *pages) postTOTPRemove(c echo.Context) error {
	return s.settled(c, s.ids.RemoveTOTP(c.Request().Context(), s.person(c).principal), "flash.totp.removed")
}

func (s *pages) postPasskeyAddBegin(c echo.Context) error {
	options, step, err := s.ids.BeginPasskeyAdd(c.Request().Context(), s.person(c).principal)
	return s.beginCeremony(c, options, step, err)
}

func (s *pages) postPasskeyAdd(c echo.Context) error {
	codes, err := s.ids.AddPasskey(c.Request().Context(), s.person(c).principal, c.FormValue("step"), short(c.FormValue("name")), []byte(c.FormValue("answer")))
	return s.enrolled(c, codes, err, "flash.passkey")
}

func (s *pages) postPasskeyRemove(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	return s.settled(c, s.ids.RemovePasskey(c.Request().Context(), s.person(c).principal, id), "flash.passkey.removed")
}

func (s *pages) postUnlink(c echo.Context) error {
	return s.settled(c, s.ids.Unlink(c.Request().Context(), s.person(c).principal, c.Param("provider")), "flash.unlinked")
}

func (s *pages) postRecovery(c echo.Context) error {
	codes, err := s.ids.RecoveryCodes(c.Request().Context(), s.person(c).principal)
	return s.enrolled(c, codes, err, "")
}

func (s *pages) postRevoke(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	v := s.person(c)
	return s.settled(c, s.ids.RevokeSession(c.Request().Context(), v.principal, v.ID, id), "flash.session")
}

func (s *pages) postRevokeOthers(c echo.Context) error {
	return s.settled(c, s.ids.RevokeOthers(c.Request().Context(), s.person(c).principal), "flash.sessions")
}
