package webui

import (
	"net/http"
	"net/url"
	"slices"
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
	Workspaces         []uuid.UUID // whose mail the person wants to see: all of Mine, or Space
	Mine               []uuid.UUID // whose mail the person may see
	Space              uuid.UUID   // the one chosen in the frame; zero: all
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

// CanInstall says whether the person has a right for the whole installation.
func (v *Person) CanInstall(right string) bool {
	return v != nil && v.principal.CanInstall(identity.Right(right))
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

// choose narrows the lists to one of the person's workspaces. What is opened by
// its address is shown in any case, and what waits for a second person, too.
func (v *Person) choose(workspace string) {
	id, err := uuid.Parse(workspace)
	if err == nil && len(v.Mine) > 1 && slices.Contains(v.Mine, id) {
		v.Space, v.Workspaces = id, []uuid.UUID{id}
	}
}

// Target is the workspace in which the person makes something new with a right:
// the chosen one, else the first one that they have, which is the default one
// for whoever is in it.
func (v *Person) Target(right string) (uuid.UUID, bool) {
	mine := v.WorkspacesWith(right)
	switch {
	case len(mine) == 0:
		return uuid.Nil, false
	case slices.Contains(mine, identity.DefaultWorkspace):
		return identity.DefaultWorkspace, true
	}
	return mine[0], true
}

// auditFilter keeps a person to the events that they may read.
func (v *Person) auditFilter(f audit.Filter) audit.Filter {
	if v.AuditAll && v.Space == uuid.Nil {
		f.Workspaces, f.NoInstallation = nil, false
	} else {
		f.Workspaces, f.NoInstallation = v.Workspaces, true
	}
	return f
}

// chosen narrows a filter to the workspace that the person has chosen in the
// frame, where they may see its events.
func (v *Person) chosen(f audit.Filter) audit.Filter {
	if v.Space != uuid.Nil && (!f.NoInstallation || slices.Contains(f.Workspaces, v.Space)) {
		f.Workspaces, f.NoInstallation = []uuid.UUID{v.Space}, true
	}
	return f
}

// eventsWith keeps a person to the events of those workspaces where they have a
// right, or to all where they have it everywhere.
func (v *Person) eventsWith(right string, f audit.Filter) audit.Filter {
	list, all := v.principal.Workspaces(identity.Right(right))
	if f.Workspaces, f.NoInstallation = nil, false; !all {
		f.Workspaces, f.NoInstallation = list, true
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
	KeysOff bool // single keys do nothing
	Now     time.Time

	ReportsDue  int    // reports of incidents that are due soon, or overdue
	ReportsTone string // crit where one is overdue

	Spaces         []identity.Space // of the person, where they have several
	SingleOperator bool             // four eyes are off, and that is said on every page
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

// keysEverywhere are the shortcuts that every page has.
func (p *frame) keysEverywhere() [][2]string {
	out := [][2]string{{p.T("keys.search"), "/"}}
	for _, g := range p.Nav {
		for _, it := range g.Items {
			out = append(out, [2]string{it.Title, "g " + it.Key})
		}
	}
	return append(out, [2]string{p.T("keys.help"), "?"})
}

// Can says whether the person has a right.
func (p *frame) Can(right string) bool { return p.User.Can(right) }

// Several says whether lists show things of more than one workspace.
func (p *frame) Several() bool { return len(p.Spaces) > 1 && p.User.Space == uuid.Nil }

// spaceName is the name of one of the person's workspaces.
func (p *frame) spaceName(id uuid.UUID) string {
	for _, s := range p.Spaces {
		if s.ID == id {
			return plain(s.Name, 100)
		}
	}
	return ""
}

// spaceFilter are the choices of a list; the first one is all.
func (p *frame) spaceFilter() []option {
	out := []option{{"", p.T("space.all")}}
	for _, s := range p.Spaces {
		out = append(out, option{s.ID.String(), plain(s.Name, 100)})
	}
	return out
}

// inSpace narrows a list to the workspace that its filter names, if it is one of
// list; chosen is that name.
func inSpace(list []uuid.UUID, wanted string) (narrowed []uuid.UUID, chosen string) {
	id, err := uuid.Parse(wanted)
	if err != nil || !slices.Contains(list, id) {
		return list, ""
	}
	return []uuid.UUID{id}, id.String()
}

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
	spaceCookie = "mailward_space"
	keysCookie  = "mailward_keys"
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
var flashes = []string{"flash.digest.saved", "flash.digest.sent", "flash.digest.nothing", "flash.hold.set", "flash.hold.lifted", "flash.hold.waiting", "flash.keep.saved", "flash.keep.waiting", "flash.cancelled", "flash.toolate", "flash.rescanned", "flash.mistake", "flash.erased", "flash.purged", "flash.released", "flash.requested", "flash.deleted", "flash.sandbox", "flash.password", "flash.signed_out", "flash.queue.retry", "flash.queue.delete",
	"flash.policy.saved", "flash.policy.reset", "flash.entry.saved", "flash.entry.deleted", "flash.group.saved", "flash.group.deleted", "flash.domain.saved", "flash.domain.deleted",
	"flash.linked", "flash.totp", "flash.totp.removed", "flash.passkey", "flash.passkey.removed", "flash.session", "flash.sessions",
	"flash.approval.approve", "flash.approval.deny", "flash.user.saved", "flash.user.waiting", "flash.space.saved", "flash.token.revoked", "flash.retention.saved", "flash.retention.waiting",
	"flash.evidence.asked", "flash.evidence.made", "flash.dlp.saved", "flash.dlp.deleted", "flash.dlp.document", "flash.dlp.forgotten",
	"flash.view.saved", "flash.view.deleted", "flash.rules.created", "flash.rules.saved", "flash.rules.enabled", "flash.rules.disabled", "flash.rules.used", "flash.rules.deleted",
	"flash.intel.sync", "flash.intel.saved", "flash.intel.ended",
	"flash.incident.created", "flash.incident.saved", "flash.incident.taken", "flash.incident.noted", "flash.incident.mail", "flash.incident.unmail", "flash.incident.reported",
	"flash.coverage", "flash.alert.acked", "flash.alert.silenced", "flash.alert.begun", "flash.alert.undone", "flash.alert.unsilenced", "flash.alert.rule.saved", "flash.alert.rule.deleted", "flash.alert.channel.saved", "flash.alert.channel.deleted", "flash.alert.channel.test"}
