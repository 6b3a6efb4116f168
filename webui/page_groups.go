package webui

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/policy"
)

// groupForm is one group while somebody writes it.
type groupForm struct {
	policy.Group
	Members string // one a line
	Wrong   string
}

type groupsView struct {
	Query string
	All   int // also those that the search leaves out
	Items []policy.Group
	Form  groupForm // for a new one
}

// hasPart says whether one of some texts holds what is searched for.
func hasPart(query string, texts ...string) bool {
	return strings.Contains(strings.ToLower(strings.Join(texts, "\n")), strings.ToLower(query))
}

func (s *pages) getGroups(c echo.Context) error {
	return s.showGroups(c, http.StatusOK, groupForm{})
}

func (s *pages) showGroups(c echo.Context, status int, form groupForm) error {
	list, err := s.policies.Groups(c.Request().Context(), s.person(c).Workspaces)
	if err != nil {
		return s.failure(c, err)
	}
	p, v := s.frame(c, "policies"), groupsView{Query: short(c.QueryParam("q")), All: len(list), Form: form}
	for _, g := range list {
		if hasPart(v.Query, append(g.Members, g.Name)...) {
			v.Items = append(v.Items, g)
		}
	}
	s.flash(c, p)
	return s.render(c, status, groupsPage(p, v))
}

func (s *pages) getGroup(c echo.Context) error {
	g, err := s.groupOf(c)
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "policies")
	return s.render(c, http.StatusOK, groupPage(p, groupForm{Group: g, Members: strings.Join(g.Members, "\n")}))
}

// groupOf is the group of the path, where the person may change it.
func (s *pages) groupOf(c echo.Context) (policy.Group, error) {
	id, err := paramID(c)
	if err != nil {
		return policy.Group{}, err
	}
	g, ok := s.policies.Group(id)
	if !ok || !s.person(c).CanIn(rightPolicyWrite, g.Workspace) {
		return policy.Group{}, policy.ErrNotFound
	}
	return g, nil
}

// postGroup makes a group or changes one.
func (s *pages) postGroup(c echo.Context) error {
	f := groupForm{Members: strings.ToValidUTF8(c.FormValue("members"), ""), Group: policy.Group{Name: strings.ToValidUTF8(c.FormValue("name"), "")}}
	known := c.Param("id") != ""
	if known {
		g, err := s.groupOf(c)
		if err != nil {
			return s.failure(c, err)
		}
		f.ID, f.Workspace = g.ID, g.Workspace
		if f.Version, err = strconv.ParseInt(c.FormValue("version"), 10, 64); err != nil {
			return s.failure(c, errBadInput)
		}
	} else {
		var may bool
		if f.Workspace, may = s.person(c).Target(rightPolicyWrite); !may {
			return s.failure(c, policy.ErrNotFound)
		}
	}
	f.Rank, _ = strconv.Atoi(c.FormValue("rank")) // what is no number is 0
	f.Group.Members = words(f.Members)
	_, err := s.policies.PutGroup(c.Request().Context(), s.person(c).Actor, f.Group)
	var invalid *policy.InvalidError
	p := s.frame(c, "policies")
	switch {
	case errors.As(err, &invalid):
		f.Wrong = invalid.Error()
	case errors.Is(err, policy.ErrGroupExists):
		f.Wrong = p.T("group.exists")
	case errors.Is(err, policy.ErrConflict):
		now, ok := s.policies.Group(f.ID)
		if !ok {
			return s.failure(c, policy.ErrNotFound)
		}
		f.Version, f.Wrong = now.Version, p.T("group.conflict", plain(now.Name, 100), strings.Join(now.Members, ", "))
	case err != nil:
		return s.failure(c, err)
	default:
		return s.done(c, "flash.group.saved", "/policies/groups")
	}
	status := http.StatusUnprocessableEntity
	if errors.Is(err, policy.ErrConflict) {
		status = http.StatusConflict
	}
	if known {
		return s.render(c, status, groupPage(p, f))
	}
	return s.showGroups(c, status, f)
}

func (s *pages) postGroupDelete(c echo.Context) error {
	g, err := s.groupOf(c)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err == nil && form.Wrong != "" {
		err = policy.ErrReasonRequired
	}
	if err == nil {
		err = s.policies.DeleteGroup(withReason(c, form.Reason), s.person(c).Actor, g.Workspace, g.ID)
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.group.deleted", "/policies/groups")
}

// domainsView is the domains that we serve.
type domainsView struct {
	Query         string
	All           int // also those that the search leaves out
	Items         []policy.Domain
	Name, NextHop string // of the one that was to be added
	Wrong         string
	Mailcow       *mailcowView // nil: none, or not for this person
}

func (s *pages) getDomains(c echo.Context) error {
	return s.showDomains(c, http.StatusOK, domainsView{})
}

func (s *pages) showDomains(c echo.Context, status int, v domainsView) error {
	all, err := s.policies.Domains(c.Request().Context())
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "policies")
	s.flash(c, p)
	v.Query = short(c.QueryParam("q"))
	for _, d := range all {
		if !p.User.CanIn(rightViewMeta, d.Workspace) {
			continue
		}
		if v.All++; hasPart(v.Query, d.Name, d.NextHop) {
			v.Items = append(v.Items, d)
		}
	}
	v.Mailcow = s.mailcowOf(c, p, all, v.Mailcow)
	return s.render(c, status, domainsPage(p, v))
}

func (s *pages) postDomain(c echo.Context) error {
	v := domainsView{Name: short(c.FormValue("name")), NextHop: short(c.FormValue("next_hop"))}
	w, may := s.person(c).Target(rightDomainWrite)
	if !may {
		return s.failure(c, policy.ErrNotFound)
	}
	_, err := s.policies.CreateDomain(c.Request().Context(), s.person(c).Actor, policy.NewDomain{Workspace: w, Name: v.Name, NextHop: v.NextHop})
	return s.domainDone(c, err, v, "flash.domain.saved")
}

func (s *pages) postDomainHop(c echo.Context) error {
	d, err := s.domainOf(c)
	if err != nil {
		return s.failure(c, err)
	}
	version, err := strconv.ParseInt(c.FormValue("version"), 10, 64)
	if err != nil {
		return s.failure(c, errBadInput)
	}
	err = s.policies.SetNextHop(c.Request().Context(), s.person(c).Actor, d.Name, strings.TrimSpace(c.FormValue("next_hop")), version)
	return s.domainDone(c, err, domainsView{}, "flash.domain.saved")
}

func (s *pages) postDomainDelete(c echo.Context) error {
	d, err := s.domainOf(c)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err == nil && form.Wrong != "" {
		err = policy.ErrReasonRequired
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.domainDone(c, s.policies.DeleteDomain(withReason(c, form.Reason), s.person(c).Actor, d.Name), domainsView{}, "flash.domain.deleted")
}

// domainOf is the domain of the form, where the person may change it.
func (s *pages) domainOf(c echo.Context) (policy.Domain, error) {
	r, ok := s.policies.Lookup("postmaster@" + c.FormValue("name"))
	if !ok || r.Domain.ID == uuid.Nil || !s.person(c).CanIn(rightDomainWrite, r.Domain.Workspace) {
		return policy.Domain{}, policy.ErrNotFound
	}
	return r.Domain, nil
}

func (s *pages) domainDone(c echo.Context, err error, v domainsView, message string) error {
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &invalid):
		v.Wrong = invalid.Error()
		return s.showDomains(c, http.StatusUnprocessableEntity, v)
	case errors.Is(err, policy.ErrExists), errors.Is(err, policy.ErrStatic):
		v.Wrong = s.frame(c, "policies").T("domain.exists")
		return s.showDomains(c, http.StatusConflict, v)
	case err != nil:
		return s.failure(c, err)
	}
	return s.done(c, message, "/policies/domains")
}
