package webui

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/gateway/queue"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/digest"
)

// registerDigests has the pages behind the links of digests, which need no login,
// and the settings of a workspace.
func (s *pages) registerDigests(r router) {
	r.public(http.MethodGet, "/digest/:token", "", s.getDigestLink)   // recorded by itself
	r.public(http.MethodPost, "/digest/:token", "", s.postDigestLink) // as an act of the recipient
	r.page(http.MethodGet, "/settings/digest", rightViewMeta, audit.PageView, s.getDigest)
	r.page(http.MethodPost, "/settings/digest", rightPolicy, "digest.setting.update", s.postDigest)
	r.page(http.MethodPost, "/settings/digest/send", rightPolicy, audit.DigestSend, s.postDigestNow)
}

// linksPerMinute is how often one network may come with links: more than a person
// clicks, less than guessing takes.
const linksPerMinute = 30

// linkLimit counts calls of each network in one minute: who has one has countless
// addresses of IPv6, and must not use up the room for all others.
type linkLimit struct {
	mu     sync.Mutex // guards minute, calls
	minute int64
	calls  map[netip.Prefix]int
}

// allow counts a call.
func (l *linkLimit) allow(from netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := now.Unix() / 60; m != l.minute || l.calls == nil {
		l.minute, l.calls = m, map[netip.Prefix]int{}
	}
	l.calls[from]++
	return l.calls[from] <= linksPerMinute && len(l.calls) < 100_000
}

// digestLink is the page behind a link.
type digestLink struct {
	digest.Link
	Token string
	Gone  bool // it does not count any more
	Done  bool
}

// getDigestLink shows what a link would do. It does nothing: whoever follows links
// to look for danger gets the page, and that is all.
func (s *pages) getDigestLink(c echo.Context) error {
	v, status, err := s.openLink(c)
	if err != nil {
		return s.failure(c, err)
	}
	if !v.Gone {
		if err := s.digests.Seen(c.Request().Context(), v.Link); err != nil {
			return s.failure(c, err)
		}
	}
	return s.render(c, status, digestLinkPage(s.linkFrame(c, v), v))
}

// postDigestLink acts, in the name of the recipient.
func (s *pages) postDigestLink(c echo.Context) error {
	v, status, err := s.openLink(c)
	if err != nil {
		return s.failure(c, err)
	}
	if !v.Gone {
		_, err := s.digests.Use(c.Request().Context(), v.Token)
		switch {
		case errors.Is(err, digest.ErrLink), errors.Is(err, quarantine.ErrState), errors.Is(err, quarantine.ErrGone), errors.Is(err, quarantine.ErrStopped):
			v.Gone, status = true, http.StatusGone
		case err != nil:
			return s.failure(c, err)
		default:
			v.Done = true
		}
	}
	return s.render(c, status, digestLinkPage(s.linkFrame(c, v), v))
}

func (s *pages) openLink(c echo.Context) (v digestLink, status int, err error) {
	c.Response().Header().Set("X-Robots-Tag", "noindex, nofollow")
	if !s.links.allow(network(clientIP(c)), s.now()) {
		return v, 0, errTooMany
	}
	v.Token = c.Param("token")
	v.Link, err = s.digests.Look(c.Request().Context(), v.Token)
	if errors.Is(err, digest.ErrLink) || err == nil && !v.Usable() {
		v.Gone = true
		return v, http.StatusGone, nil
	}
	return v, http.StatusOK, err
}

// linkFrame is a page in the language of the digest, for nobody who is logged in.
func (s *pages) linkFrame(c echo.Context, v digestLink) *frame {
	p := s.frame(c, "")
	if v.Language != "" && cookieValue(c, langCookie) == "" {
		p.lang = s.catalog.pick(v.Language)
	}
	return p
}

// digestView is the settings of a workspace.
type digestView struct {
	digest.Timetable
	Space     string
	Spaces    []spaceOption
	May       bool
	Wrong     string
	Text      string // of the preview
	Previewed bool
	Address   string
}

type spaceOption struct{ ID, Name string }

func (v digestView) releases(c policy.Class) bool { return slices.Contains(v.Release, c) }
func (v digestView) asks(c policy.Class) bool     { return slices.Contains(v.Request, c) }

// digestSpace is the workspace whose settings are meant.
func (s *pages) digestSpace(c echo.Context, right string) (uuid.UUID, error) {
	p := s.person(c)
	want := c.FormValue("space")
	if want == "" {
		want = c.FormValue("workspace")
	}
	if want == "" && len(p.Workspaces) > 0 {
		want = p.Workspaces[0].String()
	}
	id, err := uuid.Parse(want)
	if err != nil || !slices.Contains(p.Mine, id) || !p.CanIn(right, id) {
		return uuid.Nil, quarantine.ErrNotFound
	}
	return id, nil
}

func (s *pages) getDigest(c echo.Context) error {
	return s.showDigest(c, http.StatusOK, "", nil)
}

func (s *pages) showDigest(c echo.Context, status int, wrong string, typed *digest.Timetable) error {
	space, err := s.digestSpace(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	ctx, p := c.Request().Context(), s.frame(c, "settings")
	v := digestView{Space: space.String(), Wrong: wrong, May: p.User.CanIn(rightPolicy, space), Address: short(c.QueryParam("address"))}
	if v.Timetable, err = s.digests.Timetable(ctx, space); err != nil {
		return s.failure(c, err)
	}
	if typed != nil {
		v.Timetable = *typed
	}
	for _, w := range p.Spaces {
		v.Spaces = append(v.Spaces, spaceOption{w.ID.String(), w.Name})
	}
	if v.Address != "" && v.May {
		if v.Text, _, err = s.digests.Preview(ctx, space, v.Timetable, v.Address); err != nil {
			return s.failure(c, err)
		}
		v.Previewed = true
	}
	s.flash(c, p)
	return s.render(c, status, digestPage(p, v))
}

func (s *pages) postDigest(c echo.Context) error {
	space, err := s.digestSpace(c, rightPolicy)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err != nil {
		return s.failure(c, err)
	}
	q := c.Request().PostForm
	set := digest.Timetable{Enabled: q.Get("enabled") == "on", Hours: numbers(q["hour"]), Weekdays: numbers(q["weekday"]), TimeZone: short(q.Get("zone")), Language: q.Get("language"),
		Release: classesOf(q["release"]), Request: classesOf(q["request"])}
	set.Version, _ = strconv.ParseInt(q.Get("version"), 10, 64)
	wrong := form.Wrong
	if wrong == "" {
		v := s.person(c)
		switch err := s.digests.Put(c.Request().Context(), v.Actor, space, set, form.Reason); {
		case errors.Is(err, digest.ErrSetting):
			wrong = "input"
		case errors.Is(err, digest.ErrConflict):
			wrong = "conflict"
		case err != nil:
			return s.failure(c, err)
		}
	}
	if wrong != "" {
		return s.showDigest(c, http.StatusUnprocessableEntity, wrong, &set)
	}
	return s.done(c, "flash.digest.saved", "/settings/digest?space="+space.String())
}

// postDigestNow sends one digest now, to the person who asks: it says what is held
// for that address, whether or not it was told before.
func (s *pages) postDigestNow(c echo.Context) error {
	space, err := s.digestSpace(c, rightPolicy)
	if err != nil {
		return s.failure(c, err)
	}
	ctx, v := c.Request().Context(), s.person(c)
	set, err := s.digests.Timetable(ctx, space)
	if err != nil {
		return s.failure(c, err)
	}
	switch err := s.digests.Send(ctx, v.Actor, space, set, v.Email, true); {
	case errors.Is(err, digest.ErrNothing):
		return s.done(c, "flash.digest.nothing", "/settings/digest?space="+space.String())
	case errors.Is(err, queue.ErrNoRoute):
		return s.showDigest(c, http.StatusUnprocessableEntity, "noroute", nil)
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, "flash.digest.sent", "/settings/digest?space="+space.String())
}

func numbers(list []string) []int {
	out := []int{}
	for _, t := range list {
		if n, err := strconv.Atoi(t); err == nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
