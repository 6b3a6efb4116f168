package identity

import (
	"slices"
	"time"

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
	AuditErase  Right = "audit_erase" // personal values
	HealthRead  Right = "health_read"
	UsersWrite  Right = "users_write"
	TokensWrite Right = "tokens_write"
	IntelWrite  Right = "intel_write"
	RulesRead   Right = "rules_read"
	RulesWrite  Right = "rules_write" // for the installation: every mail meets every rule
	AlertsRead  Right = "alerts_read"
	AlertsAct   Right = "alerts_act"   // take an alert in hand, silence
	AlertsWrite Right = "alerts_write" // rules and channels

	IncidentsRead  Right = "incidents_read"
	IncidentsWrite Right = "incidents_write" // with decisions and what is said of reports

	WorkspacesWrite Right = "workspaces_write" // for the installation: clients come and go, and who runs it
)

// Rights are all of them, as a token's scopes may name them.
func Rights() []Right {
	return []Right{ViewMeta, ViewHeaders, ViewBody, DownloadRaw, Release, Approve, Delete, PolicyWrite, DomainWrite, AuditRead, AuditExport, HealthRead,
		UsersWrite, TokensWrite, IntelWrite, RulesRead, RulesWrite, WorkspacesWrite, AuditErase, AlertsRead, AlertsAct, AlertsWrite, IncidentsRead, IncidentsWrite}
}

// installOnly says whether a right counts only where it is had for the whole
// installation.
func installOnly(r Right) bool { return r == RulesWrite || r == WorkspacesWrite }

// WorkspaceRoles are the roles that are granted in a workspace, InstallRoles
// those for the whole installation.
func WorkspaceRoles() []Role { return []Role{Admin, Approver, Analyst, Auditor, Viewer} }

// InstallRoles are the roles that are granted for the whole installation.
func InstallRoles() []Role { return []Role{Operator, Auditor} }

// Roles are all roles, the strongest first.
func Roles() []Role { return []Role{Admin, Approver, Analyst, Auditor, Operator, Viewer} }

// grants says what each role may do. An auditor sees the record but no mail's
// content; an operator sees whether everything runs, keeps the rules and the workspaces, and
// sees no mail at all.
func grants(r Role) []Right {
	switch r {
	case Admin:
		return []Right{ViewMeta, ViewHeaders, ViewBody, DownloadRaw, Release, Approve, Delete, PolicyWrite, DomainWrite,
			AuditRead, AuditExport, AuditErase, HealthRead, UsersWrite, TokensWrite, IntelWrite, RulesRead, RulesWrite, AlertsRead, AlertsAct, AlertsWrite, IncidentsRead, IncidentsWrite}
	case Approver:
		return []Right{ViewMeta, ViewHeaders, ViewBody, Approve, HealthRead, RulesRead, AlertsRead, AlertsAct, IncidentsRead}
	case Analyst:
		return []Right{ViewMeta, ViewHeaders, ViewBody, DownloadRaw, Release, Delete, IntelWrite, HealthRead, RulesRead, AlertsRead, AlertsAct, IncidentsRead, IncidentsWrite}
	case Auditor:
		return []Right{ViewMeta, ViewHeaders, AuditRead, AuditExport, HealthRead, RulesRead, AlertsRead, IncidentsRead}
	case Operator:
		return []Right{HealthRead, RulesRead, RulesWrite, WorkspacesWrite, AlertsRead, AlertsAct, AlertsWrite}
	case Viewer:
		return []Right{ViewMeta, HealthRead, AlertsRead}
	}
	return nil
}

// RolesWith are the roles that have a right.
func RolesWith(right Right) (out []string) {
	for _, r := range Roles() {
		if slices.Contains(grants(r), right) {
			out = append(out, string(r))
		}
	}
	return out
}

// ValidRole says whether there is such a role.
func ValidRole(r Role) bool { return slices.Contains(Roles(), r) }

func may(roles []Role, right Right) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(grants(r), right) })
}

// tokenLimit is what a token may do of what its owner may: the rights of one role, or
// some of them, in one workspace or wherever the owner has them.
type tokenLimit struct {
	role      Role
	workspace uuid.UUID // zero: everywhere
	scopes    []Right   // none: all that the role has
	expires   *time.Time
}

func (l *tokenLimit) allows(right Right, workspace uuid.UUID) bool {
	switch {
	case l == nil:
		return true
	case l.workspace != uuid.Nil && (installOnly(right) || workspace != l.workspace):
		return false
	case len(l.scopes) > 0 && !slices.Contains(l.scopes, right):
		return false
	}
	return slices.Contains(grants(l.role), right)
}

// Can says whether the principal has a right in a workspace. For no workspace
// (uuid.Nil) it says whether the principal has it anywhere. Somebody who still
// has to change a password has no right at all; some rights count only for the
// whole installation; and a token has no right that its owner has not, or has no
// more.
func (p Principal) Can(right Right, workspace uuid.UUID) bool {
	if p.User.MustChangePassword && p.TokenID == uuid.Nil {
		return false
	}
	if workspace == uuid.Nil && p.limit != nil {
		workspace = p.limit.workspace
	}
	if !p.limit.allows(right, workspace) {
		return false
	}
	if may(p.InstallRoles, right) {
		return true
	}
	if installOnly(right) {
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

// MayGive says whether the principal may give a role there, or become an account that
// has it. A token gives nobody what it may not do itself: else one that may only make
// accounts could make one that may do everything.
func (p Principal) MayGive(r Role, workspace uuid.UUID) bool {
	return !slices.ContainsFunc(grants(r), func(right Right) bool {
		counts := workspace == uuid.Nil || !installOnly(right) // in a workspace such a right is none
		return counts && !p.limit.allows(right, workspace)
	})
}

// CanInstall says whether the principal has a right for the whole installation.
func (p Principal) CanInstall(right Right) bool {
	return p.Can(right, uuid.Nil) && may(p.InstallRoles, right) && (p.limit == nil || p.limit.workspace == uuid.Nil)
}

// Workspaces are those in which the principal has a right; all is true where it
// has it in every one, and then the list is nil.
func (p Principal) Workspaces(right Right) (list []uuid.UUID, all bool) {
	if p.CanInstall(right) {
		return nil, true
	}
	list = []uuid.UUID{}
	if p.limit != nil && p.limit.workspace != uuid.Nil {
		if p.Can(right, p.limit.workspace) {
			list = append(list, p.limit.workspace)
		}
		return list, false
	}
	for w := range p.Roles {
		if p.Can(right, w) {
			list = append(list, w)
		}
	}
	return list, false
}

// RoleNames are all roles of the principal, the strongest first; of a token, its own.
func (p Principal) RoleNames() []string {
	if p.limit != nil {
		return []string{string(p.limit.role)}
	}
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
