package identity

import (
	"slices"

	"github.com/google/uuid"
)

// Role is a named set of rights, granted per workspace or for the installation.
type Role string

// The roles.
const (
	Admin    Role = "admin"
	Analyst  Role = "analyst"
	Approver Role = "approver"
	Auditor  Role = "auditor"
	Viewer   Role = "viewer"
	Operator Role = "operator"
)

// Right is one thing that a person may do.
type Right string

// The rights.
const (
	ViewMeta    Right = "view_meta"
	ViewHeaders Right = "view_headers"
	ViewBody    Right = "view_body"
	DownloadRaw Right = "download_raw"
	Release     Right = "release"
	Approve     Right = "approve"
	Delete      Right = "delete"
	PolicyWrite Right = "policy_write"
	DomainWrite Right = "domain_write"
	AuditRead   Right = "audit_read"
	AuditExport Right = "audit_export"
	HealthRead  Right = "health_read"
	UsersWrite  Right = "users_write"
	TokensWrite Right = "tokens_write"
	RulesRead   Right = "rules_read"
	RulesWrite  Right = "rules_write" // for the installation: every mail meets every rule
	AlertsRead  Right = "alerts_read"
	AlertsAct   Right = "alerts_act"   // take an alert in hand, silence
	AlertsWrite Right = "alerts_write" // rules and channels
)

// Roles are all roles, the strongest first.
func Roles() []Role { return []Role{Admin, Approver, Analyst, Auditor, Operator, Viewer} }

// grants says what each role may do. An auditor sees the record but no mail's
// content; an operator sees whether everything runs, keeps the rules, and sees no mail at all.
func grants(r Role) []Right {
	switch r {
	case Admin:
		return []Right{ViewMeta, ViewHeaders, ViewBody, DownloadRaw, Release, Approve, Delete, PolicyWrite, DomainWrite,
			AuditRead, AuditExport, HealthRead, UsersWrite, TokensWrite, RulesRead, RulesWrite, AlertsRead, AlertsAct, AlertsWrite}
	case Approver:
		return []Right{ViewMeta, ViewHeaders, ViewBody, Approve, HealthRead, RulesRead, AlertsRead, AlertsAct}
	case Analyst:
		return []Right{ViewMeta, ViewHeaders, ViewBody, DownloadRaw, Release, Delete, HealthRead, RulesRead, AlertsRead, AlertsAct}
	case Auditor:
		return []Right{ViewMeta, ViewHeaders, AuditRead, AuditExport, HealthRead, RulesRead, AlertsRead}
	case Operator:
		return []Right{HealthRead, RulesRead, RulesWrite, AlertsRead, AlertsAct, AlertsWrite}
	case Viewer:
		return []Right{ViewMeta, HealthRead, AlertsRead}
	}
	return nil
}

// ValidRole says whether there is such a role.
func ValidRole(r Role) bool { return slices.Contains(Roles(), r) }

func may(roles []Role, right Right) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(grants(r), right) })
}

// Can says whether the principal has a right in a workspace. For no workspace
// (uuid.Nil) it says whether the principal has it anywhere. Somebody who still
// has to change a password has no right at all; and rules can be changed only by
// who has that right for the installation.
func (p Principal) Can(right Right, workspace uuid.UUID) bool {
	if p.User.MustChangePassword && p.TokenID == uuid.Nil {
		return false
	}
	if may(p.InstallRoles, right) {
		return true
	}
	if right == RulesWrite {
		return false
	}
	if workspace != uuid.Nil {
		return may(p.Roles[workspace], right)
	}
	for _, roles := range p.Roles {
		if may(roles, right) {
			return true
		}
	}
	return false
}

// Workspaces are those in which the principal has a right; all is true where it
// has it in every one, and then the list is nil.
func (p Principal) Workspaces(right Right) (list []uuid.UUID, all bool) {
	if p.Can(right, uuid.Nil) && may(p.InstallRoles, right) {
		return nil, true
	}
	list = []uuid.UUID{}
	for w := range p.Roles {
		if p.Can(right, w) {
			list = append(list, w)
		}
	}
	return list, false
}

// RoleNames are all roles of the principal, the strongest first.
func (p Principal) RoleNames() []string {
	var out []string
	for _, r := range Roles() {
		has := slices.Contains(p.InstallRoles, r)
		for _, roles := range p.Roles {
			has = has || slices.Contains(roles, r)
		}
		if has {
			out = append(out, string(r))
		}
	}
	return out
}
