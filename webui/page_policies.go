package webui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/policy"
)

const (
	rightPolicyWrite = "policy_write"
	rightDomainWrite = "domain_write"
)

// registerPolicies adds the pages about policies.
func (s *pages) registerPolicies(r router) {
	r.page(http.MethodGet, "/policies", rightViewMeta, audit.PageView, s.getPolicies)
	r.page(http.MethodGet, "/policies/edit", rightPolicyWrite, audit.PageView, s.getPolicyEdit)
	r.page(http.MethodPost, "/policies/edit", rightPolicyWrite, "policy.update", s.postPolicyEdit)
	r.page(http.MethodPost, "/policies/reset", rightPolicyWrite, "policy.delete", s.postPolicyReset)
	r.page(http.MethodPost, tryPath, rightPolicyWrite, audit.PolicyTry, s.postPolicyTry)
	r.page(http.MethodGet, "/policies/entries", rightViewMeta, audit.PageView, s.getEntries)
	r.page(http.MethodGet, "/policies/entries/new", rightPolicyWrite, audit.PageView, s.getEntryNew)
	r.page(http.MethodPost, "/policies/entries/new", rightPolicyWrite, "policy_entry.create", s.postEntry)
	r.page(http.MethodGet, "/policies/entries/:id", rightViewMeta, audit.PageView, s.getEntry)
	r.page(http.MethodPost, "/policies/entries/:id", rightPolicyWrite, "policy_entry.update", s.postEntry)
	r.page(http.MethodPost, "/policies/entries/:id/delete", rightPolicyWrite, "policy_entry.delete", s.postEntryDelete)
	r.page(http.MethodGet, "/policies/groups", rightViewMeta, audit.PageView, s.getGroups)
	r.page(http.MethodPost, "/policies/groups", rightPolicyWrite, "group.create", s.postGroup)
	r.page(http.MethodGet, "/policies/groups/:id", rightPolicyWrite, audit.PageView, s.getGroup)
	r.page(http.MethodPost, "/policies/groups/:id", rightPolicyWrite, "group.update", s.postGroup)
	r.page(http.MethodPost, "/policies/groups/:id/delete", rightPolicyWrite, "group.delete", s.postGroupDelete)
	r.page(http.MethodGet, "/policies/domains", rightViewMeta, audit.PageView, s.getDomains)
	r.page(http.MethodPost, "/policies/domains", rightDomainWrite, "domain.create", s.postDomain)
	r.page(http.MethodPost, "/policies/domains/hop", rightDomainWrite, "domain.update", s.postDomainHop)
	r.page(http.MethodPost, "/policies/domains/mailcow", rightWorkspacesWrite, audit.MailcowDomain, s.postMailcowDomain)
	r.page(http.MethodPost, "/policies/domains/delete", rightDomainWrite, "domain.delete", s.postDomainDelete)
}

// scopeRef is whose policy a page is about, as its address says it.
type scopeRef struct {
	policy.Scope
	Label string // name of the group, or the domain
}

// key is the scope in an address: workspace, domain:NAME or group:ID.
func (r scopeRef) key() string {
	switch {
	case r.Group != uuid.Nil:
		return "group:" + r.Group.String()
	case r.Domain != "*":
		return "domain:" + r.Domain
	}
	return "workspace"
}

func (r scopeRef) query(more ...string) string {
	v := url.Values{"scope": {r.key()}, "direction": {string(r.Direction)}}
	if r.Address != "" {
		v.Set("address", r.Address)
	}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

// layer is the layer of that scope.
func (r scopeRef) layer() policy.Policy {
	return policy.Policy{Workspace: r.Workspace, Domain: r.Domain, Group: r.Group, Direction: r.Direction}
}

// scopeOf reads the scope of a page, where the person has the right.
func (s *pages) scopeOf(c echo.Context, right string) (scopeRef, error) {
	ref := scopeRef{Scope: policy.Scope{Workspace: policy.DefaultWorkspace, Domain: "*", Direction: policy.Inbound}}
	if w, ok := s.person(c).Target(right); ok {
		ref.Workspace = w
	}
	if value(c, "direction") == string(policy.Outbound) {
		ref.Direction = policy.Outbound
	}
	kind, name, _ := strings.Cut(value(c, "scope"), ":")
	switch kind {
	case "domain":
		r, ok := s.policies.Lookup("postmaster@" + name)
		if !ok {
			return ref, policy.ErrNotFound
		}
		ref.Workspace, ref.Domain, ref.Label = r.Domain.Workspace, r.Domain.Name, r.Domain.Name
	case "group":
		id, err := uuid.Parse(name)
		if err != nil {
			return ref, policy.ErrNotFound
		}
		g, ok := s.policies.Group(id)
		if !ok {
			return ref, policy.ErrNotFound
		}
		ref.Workspace, ref.Group, ref.Label = g.Workspace, g.ID, g.Name
	}
	if address := short(value(c, "address")); address != "" {
		ref.Address = address
		if r, ok := s.policies.Lookup(address); ok {
			ref.Workspace = r.Domain.Workspace
		}
	}
	if !s.person(c).CanIn(right, ref.Workspace) {
		return ref, policy.ErrNotFound
	}
	return ref, nil
}

// value is a field of the form, or else of the address.
func value(c echo.Context, name string) string {
	if v := c.FormValue(name); v != "" {
		return v
	}
	return c.QueryParam(name)
}

// policiesView is what is in force in one scope.
type policiesView struct {
	Ref      scopeRef
	Unknown  bool // the address is none of ours
	Sections []settingSection
	Layers   []layerLink
	Scopes   []option
	Acts     []auditRow
}

type settingSection struct {
	Title string
	Rows  []settingRow
}

type settingRow struct {
	Name, Value string
	Origin      policy.Origin
}

// layerLink is one layer of what is in force.
type layerLink struct {
	Title string
	Ref   scopeRef
	There bool // it sets something
}

func (s *pages) getPolicies(c echo.Context) error {
	ref, err := s.scopeOf(c, rightViewMeta)
	if err != nil {
		return s.failure(c, err)
	}
	p := s.frame(c, "policies")
	s.flash(c, p)
	v := policiesView{Ref: ref}
	if v.Scopes, err = s.scopes(c, p); err != nil {
		return s.failure(c, err)
	}
	eff, groups, err := s.policies.Effective(ref.Scope)
	if errors.Is(err, policy.ErrNotFound) && ref.Address != "" {
		v.Unknown = true
		return s.render(c, http.StatusOK, policiesPage(p, v))
	}
	if err != nil {
		return s.failure(c, err)
	}
	v.Sections = sections(p, eff, s.sandbox)
	if v.Layers, err = s.layers(c, p, ref, groups); err != nil {
		return s.failure(c, err)
	}
	if v.Acts, err = s.policyActs(c, v.Layers); err != nil {
		return s.failure(c, err)
	}
	return s.render(c, http.StatusOK, policiesPage(p, v))
}

// scopes are what a person can look at.
func (s *pages) scopes(c echo.Context, p *frame) ([]option, error) {
	ctx, out := c.Request().Context(), []option{{"workspace", p.T("pol.scope.workspace")}}
	domains, err := s.policies.Domains(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		if p.User.CanIn(rightViewMeta, d.Workspace) {
			out = append(out, option{"domain:" + d.Name, p.T("pol.scope.domain", d.Name)})
		}
	}
	groups, err := s.policies.Groups(ctx, p.User.Workspaces)
	for _, g := range groups {
		out = append(out, option{"group:" + g.ID.String(), p.T("pol.scope.group", g.Name)})
	}
	return out, err
}

// layers are those that count in a scope, the lowest first.
func (s *pages) layers(c echo.Context, p *frame, ref scopeRef, groups []policy.Group) ([]layerLink, error) {
	base := scopeRef{Scope: policy.Scope{Workspace: ref.Workspace, Domain: "*", Direction: ref.Direction}}
	out := []layerLink{{Title: p.T("pol.scope.workspace"), Ref: base}}
	domain := ref.Domain
	if r, ok := s.policies.Lookup(ref.Address); ok {
		domain = r.Domain.Name
	}
	if domain != "*" {
		d := base
		d.Domain, d.Label = domain, domain
		out = append(out, layerLink{Title: p.T("pol.scope.domain", domain), Ref: d})
	}
	for _, g := range groups {
		l := base
		l.Group, l.Label = g.ID, g.Name
		out = append(out, layerLink{Title: p.T("pol.scope.group", g.Name), Ref: l})
	}
	for i := range out {
		_, err := s.policies.Layer(c.Request().Context(), out[i].Ref.layer())
		if err != nil && !errors.Is(err, policy.ErrNotFound) {
			return nil, err
		}
		out[i].There = err == nil
	}
	return out, nil
}

// shownActs is how many changes a page lists.
const shownActs = 10

// policyActs are the last changes of the layers, for those who may read the record.
func (s *pages) policyActs(c echo.Context, layers []layerLink) (out []auditRow, err error) {
	who := s.person(c)
	if !who.Can(rightAuditRead) {
		return nil, nil
	}
	for _, l := range layers {
		pol, err := s.policies.Layer(c.Request().Context(), l.Ref.layer())
		if errors.Is(err, policy.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		page, err := s.record.List(c.Request().Context(), who.auditFilter(audit.Filter{Action: "policy.*", Target: pol.ID.String(), Skip: []string{audit.PolicyTry}, Limit: shownActs}))
		if err != nil {
			return nil, err
		}
		for _, r := range page.Items {
			out = append(out, auditRowOf(r))
		}
	}
	slices.SortStableFunc(out, func(a, b auditRow) int { return b.At.Compare(a.At) })
	return out[:min(len(out), shownActs)], nil
}

// sections put the lines of a policy under headings. sandbox says whether there is
// one that a mail could be held for.
func sections(p *frame, eff policy.Policy, sandbox bool) []settingSection {
	titles := []string{"pol.actions", "pol.signs", "pol.engines", "pol.auth", "pol.sandbox", "pol.dlp"}
	out := make([]settingSection, len(titles))
	for i, t := range titles {
		out[i].Title = p.T(t)
	}
	for _, set := range eff.Settings() {
		row, at := settingRow{Value: set.Value, Origin: set.Origin}, 0
		kind, name, _ := strings.Cut(set.Line, ".")
		switch kind + "." {
		case policy.LineAction:
			row.Name, row.Value = p.word("class", name), p.word("act", set.Value)
			if set.Value == string(policy.Hold) && !sandbox {
				row.Value = p.T("pol.hold.quarantine")
			}
		case policy.LineThreshold:
			at, row.Name = 1, p.T("pol.threshold."+name)
		case policy.LineWeight:
			at, row.Name = 1, p.T("pol.weight", name)
		case policy.LineEngine:
			at, row.Name, row.Value = 2, name, p.word("act", set.Value)
			if name == policy.AnyEngine {
				row.Name = p.T("pol.engine.any")
			}
		case "auth.":
			at, row.Name = 3, p.T("pol."+name)
			if set.Line == policy.LineDMARC {
				row.Value = p.word("dmarc", set.Value)
			}
		case "sandbox.":
			at, row.Name, row.Value = 4, p.T("pol.sandbox"), sandboxText(p, set.Value)
		default:
			at, row.Name = 5, p.T("pol.dlp_sets")
			if set.Value == policy.AllSets {
				row.Value = p.T("pol.dlp.all")
			}
		}
		if row.Value == "" {
			row.Value = p.T("pol.none")
		}
		out[at].Rows = append(out[at].Rows, row)
	}
	return slices.DeleteFunc(out, func(s settingSection) bool { return len(s.Rows) == 0 })
}

// originText names a layer where a line comes from.
func originText(p *frame, o policy.Origin) string {
	switch o.Layer {
	case policy.LayerWorkspace:
		return p.T("pol.scope.workspace")
	case policy.LayerDomain:
		return p.T("pol.scope.domain", o.Name)
	case policy.LayerGroup:
		return p.T("pol.scope.group", o.Name)
	}
	return p.T("pol.builtin")
}

// postPolicyReset takes a layer away.
func (s *pages) postPolicyReset(c echo.Context) error {
	ref, err := s.scopeOf(c, rightPolicyWrite)
	if err != nil {
		return s.failure(c, err)
	}
	form, err := reasonForm(c)
	if err == nil && form.Wrong != "" {
		err = policy.ErrReasonRequired
	}
	if err == nil {
		err = s.policies.DeleteLayer(withReason(c, form.Reason), s.person(c).Actor, ref.layer())
	}
	if err != nil {
		return s.failure(c, err)
	}
	return s.done(c, "flash.policy.reset", "/policies?"+ref.query())
}
