package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/mailcow"
	"mailward/policy"
)

// mailcowTime bounds what the page waits for mailcow.
const mailcowTime = 3 * time.Second

// mailcowView is the domains of the mailcow behind us, beside ours.
type mailcowView struct {
	There   []mailcowDomain
	Missing []string // ours, and not mailcow's
	Hop     string   // for its domains
	Problem string   // why they cannot be shown
	New     mailcow.NewDomain
	Wrong   string
}

type mailcowDomain struct {
	mailcow.Domain
	Ours bool
}

// mailcowOf asks mailcow for its domains. It is the installation's, so only who
// runs that sees them.
func (s *pages) mailcowOf(c echo.Context, p *frame, ours []policy.Domain, v *mailcowView) *mailcowView {
	if s.mailcow == nil || !p.User.CanInstall(rightWorkspacesWrite) {
		return nil
	}
	if v == nil {
		v = &mailcowView{New: mailcow.DefaultDomain("")}
	}
	v.Hop = s.mailcow.NextHop
	ctx, cancel := context.WithTimeout(c.Request().Context(), mailcowTime)
	defer cancel()
	list, err := s.mailcow.Domains(ctx)
	if err != nil {
		s.log.Warn("mailcow's domains cannot be shown", "error", err)
		v.Problem = p.T("mailcow.problem." + mailcowProblem(err))
		return v
	}
	has := func(name string) bool {
		return slices.ContainsFunc(ours, func(d policy.Domain) bool { return d.Name == name })
	}
	for _, d := range list {
		v.There = append(v.There, mailcowDomain{d, has(d.Name)})
	}
	for _, d := range ours {
		if !slices.ContainsFunc(list, func(m mailcow.Domain) bool { return m.Name == d.Name }) {
			v.Missing = append(v.Missing, d.Name)
		}
	}
	return v
}

// mailcowProblem is the key of the sentence that says what to do.
func mailcowProblem(err error) string {
	switch {
	case errors.Is(err, mailcow.ErrDenied):
		return "denied"
	case errors.Is(err, mailcow.ErrReadOnly):
		return "read_only"
	case errors.Is(err, mailcow.ErrExists):
		return "exists"
	case errors.Is(err, mailcow.ErrInvalid):
		return "refused"
	case errors.Is(err, mailcow.ErrUnknown):
		return "unknown"
	default:
		return "down"
	}
}

// postMailcowDomain makes a domain in mailcow that we serve already.
func (s *pages) postMailcowDomain(c echo.Context) error {
	who := s.person(c)
	if s.mailcow == nil || !who.CanInstall(rightWorkspacesWrite) {
		return s.failure(c, policy.ErrNotFound)
	}
	r, ok := s.policies.Lookup("postmaster@" + strings.TrimSpace(c.FormValue("name")))
	if !ok {
		return s.failure(c, policy.ErrNotFound)
	}
	n := mailcow.DefaultDomain(r.Domain.Name)
	n.Description = short(c.FormValue("description"))
	for field, to := range map[string]*int{"mailboxes": &n.Mailboxes, "aliases": &n.Aliases} {
		v, err := strconv.Atoi(c.FormValue(field))
		if err != nil || v < 0 || v > 1_000_000 {
			return s.failure(c, errBadInput)
		}
		*to = v
	}
	gib, err := strconv.ParseInt(c.FormValue("quota_gib"), 10, 32)
	if err != nil || gib < 1 || gib > 1_000_000 {
		return s.failure(c, errBadInput)
	}
	n.DomainQuota, n.BoxQuota = gib*1024, min(n.BoxQuota, gib*1024)
	err = s.mailcow.CreateDomain(c.Request().Context(), who.Actor, who.Roles, n)
	if err == nil {
		return s.done(c, "flash.mailcow.made", "/policies/domains")
	}
	if audit.IsUnwritable(err) {
		return s.failure(c, err)
	}
	p := s.frame(c, "policies")
	v := domainsView{Mailcow: &mailcowView{New: n, Wrong: p.T("mailcow.problem." + mailcowProblem(err))}}
	return s.showDomains(c, http.StatusBadGateway, v)
}
