package webui

import (
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

// Person is who looks at a page, as the pages need it.
type Person struct {
	ID                 uuid.UUID
	Email, Name        string
	Role               string // the strongest one, for the corner of the page
	Locale, Theme      string
	MustChangePassword bool
	BreakGlass         bool      // an account for emergencies
	MustEnrol          bool      // no rights until there is a second factor
	EnrolBy            time.Time // by when one has to be there; zero: it need not
	AuthenticatedAt    time.Time // last time that the password was given
	Actor              pg.Actor
	Roles              []string
	Workspaces         []uuid.UUID // whose mail the person may see
	AuditAll           bool        // may read the whole audit, not only that of their workspaces
	principal          identity.Principal
	can                func(right string, workspace uuid.UUID) bool
}

// Can says whether the person has a right in some workspace.
func (v *Person) Can(right string) bool { return v.CanIn(right, uuid.Nil) }

// CanIn says whether the person has a right in that workspace.
func (v *Person) CanIn(right string, workspace uuid.UUID) bool {
	return v != nil && v.can != nil && v.can(right, workspace)
}

// WorkspacesWith lists the workspaces in which the person has a right.
func (v *Person) WorkspacesWith(right string) (list []uuid.UUID) {
	for _, w := range v.Workspaces {
		if v.CanIn(right, w) {
			list = append(list, w)
		}
	}
	return list
}

// auditFilter keeps a person to the events that they may read.
func (v *Person) auditFilter(f audit.Filter) audit.Filter {
	if v.AuditAll {
		f.Workspaces, f.NoInstallation = nil, false
	} else {
		f.Workspaces, f.NoInstallation = v.Workspaces, true
	}
	return f
}

// Initials stand in the round picture.
func (v *Person) Initials() string {
	src := v.Name
	if src == "" {
		src, _, _ = strings.Cut(v.Email, "@")
	}
	var out []rune
	for _, word := range strings.FieldsFunc(src, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		out = append(out, unicode.ToUpper([]rune(word)[0]))
		if len(out) == 2 {
			break
		}
	}
	return string(out)
}

// Label is the name that the pages show.
func (v *Person) Label() string {
	if v.Name != "" {
		return v.Name
	}
	return v.Email
}

// frame is what every page knows: language, person, place.
type frame struct {
	lang
	Host    string
	Theme   string // light, dark or "" for the system's
	Path    string // path and query of this page, for forms that come back to it
	Section string // menu entry that is current
	User    *Person
	Flash   string // key of a message about what was just done
	Nav     []navGroup
	Built   bool
	Now     time.Time

	SingleOperator bool // four eyes are off, and that is said on every page
	assets         *assets
}

type navGroup struct {
	Title string
	Items []navItem
}

type navItem struct {
	Key, Section, Href, Icon, Title string
	Count                           int
	Tone                            string
	CountLabel                      string
}

func (p *frame) asset(name string) string { return p.assets.url(name) }

// Can says whether the person has a right.
func (p *frame) Can(right string) bool { return p.User.Can(right) }

// isFragment says whether only the element with this id is wanted.
func isFragment(c echo.Context, id string) bool {
	h := c.Request().Header
	if h.Get("HX-Request") == "" || h.Get("HX-History-Restore-Request") == "true" {
		return false
	}
	_, target, ok := strings.Cut(h.Get("HX-Target"), "#")
	if !ok {
		target = h.Get("HX-Target")
	}
	return target == id
}

// ownPath returns next when it is a path of ours, else "/". Anything that a
// browser could read as another host is not one: "//host", "/\host".
func ownPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" || strings.HasPrefix(u.Path, "//") || u.Path == "/login" || u.Path == "/logout" {
		return "/"
	}
	return next
}

const (
	themeCookie = "mailward_theme"
	langCookie  = "mailward_lang"
	flashCookie = "mailward_flash"
)

func cookieValue(c echo.Context, name string) string {
	k, err := c.Cookie(name)
	if err != nil {
		return ""
	}
	return k.Value
}

func setCookie(c echo.Context, name, value string, age time.Duration, secure bool) {
	k := &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(age.Seconds()), HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode}
	if age < 0 {
		k.MaxAge = -1
	}
	c.SetCookie(k)
}

// flashes are the messages that a redirect may carry: keys of the catalogue, so
// that a cookie never puts words of its own on a page.
var flashes = []string{"flash.released", "flash.requested", "flash.deleted", "flash.sandbox", "flash.password", "flash.signed_out", "flash.queue.retry", "flash.queue.delete",
	"flash.policy.saved", "flash.policy.reset", "flash.entry.saved", "flash.entry.deleted", "flash.group.saved", "flash.group.deleted", "flash.domain.saved", "flash.domain.deleted",
	"flash.linked", "flash.totp", "flash.totp.removed", "flash.passkey", "flash.passkey.removed", "flash.session", "flash.sessions",
	"flash.dlp.saved", "flash.dlp.deleted", "flash.dlp.document", "flash.dlp.forgotten",
	"flash.rules.created", "flash.rules.saved", "flash.rules.enabled", "flash.rules.disabled", "flash.rules.used", "flash.rules.deleted",
	"flash.alert.acked", "flash.alert.silenced", "flash.alert.unsilenced", "flash.alert.rule.saved", "flash.alert.rule.deleted", "flash.alert.channel.saved", "flash.alert.channel.deleted", "flash.alert.channel.test"}
