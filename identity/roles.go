package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
)

var (
	lockRolesSQL  = pg.Query(queryFiles, "lock_roles")
	orphanedSQL   = pg.Query(queryFiles, "orphaned")
	roleLeftSQL   = pg.Query(queryFiles, "role_left")
	deleteRoleSQL = pg.Query(queryFiles, "delete_role")
	aloneSQL      = pg.Query(queryFiles, "alone")
	listUsersSQL  = pg.Query(queryFiles, "list_users")
)

// RoleChange gives a role to an account.
type RoleChange struct {
	User      uuid.UUID
	Workspace uuid.UUID // zero: the whole installation
	Role      Role
	Reason    string
}

func (c RoleChange) workspace() *uuid.UUID {
	if c.Workspace == uuid.Nil {
		return nil
	}
	return &c.Workspace
}

// target is the account, as the events name it.
func (c RoleChange) target() []audit.Target {
	return []audit.Target{{Type: "user_account", ID: c.User.String(), Label: string(c.Role)}}
}

func (c RoleChange) check() error {
	known := WorkspaceRoles()
	if c.Workspace == uuid.Nil {
		known = InstallRoles()
	}
	switch {
	case strings.TrimSpace(c.Reason) == "":
		return ErrReasonRequired
	case !slices.Contains(known, c.Role):
		return fmt.Errorf("%w: the role %q is not one of %v", ErrInvalid, c.Role, known)
	}
	return nil
}

// maker is who makes an account or gives a role, as the row says: an account's
// id, since whether somebody agrees with an account of their own making is
// decided by it, or else a type of actor.
func maker(a pg.Actor) string {
	if a.UserID != uuid.Nil {
		return a.UserID.String()
	}
	return string(a.Type)
}

// GrantRole gives an account a role. Where the installation wants four eyes it
// waits for a second person, and waiting says so. An installation in which there
// has never been a second person to ask is the exception, and the record says
// so: else it could never get one.
func (s *Store) GrantRole(ctx context.Context, p Principal, c RoleChange) (waiting bool, err error) {
	if err := c.check(); err != nil {
		return false, err
	}
	err = s.db.Act(pg.WithReason(ctx, c.Reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		waiting, err = s.grantOrAsk(ctx, tx, p, c)
		return err
	})
	return waiting, err
}

func (s *Store) grantOrAsk(ctx context.Context, tx pgx.Tx, p Principal, c RoleChange) (waiting bool, err error) {
	if !p.MayGive(c.Role, c.Workspace) {
		return false, ErrBeyondToken
	}
	if err := s.openWorkspace(ctx, tx, c.Workspace); err != nil {
		return false, err
	}
	two, err := s.needsTwo(ctx, tx, p.User.ID)
	if err != nil {
		return false, err
	}
	detail := map[string]any{"user_id": c.User.String(), "role": string(c.Role)}
	if two {
		_, err := s.asks.Ask(ctx, tx, p.Actor(), p.RoleNames(), approval.Ask{Workspace: c.workspace(), Kind: approval.RoleGrant, Action: audit.RoleRequest,
			Detail: detail, Targets: c.target(), Reason: c.Reason})
		return true, err
	}
	_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.RoleGrant, Phase: "intent", Workspace: c.Workspace, Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
		Targets: c.target(), After: detail, Reason: c.Reason, Approval: &audit.Approval{Mode: SingleOperator, RequestedBy: p.User.ID.String(), RequestedAt: s.now()}})
	if err != nil {
		return false, err
	}
	return false, s.grant(ctx, tx, c.User, c.workspace(), []Role{c.Role}, maker(p.Actor()))
}

// needsTwo says whether a role that this person gives waits for a second one.
func (s *Store) needsTwo(ctx context.Context, tx pgx.Tx, person uuid.UUID) (bool, error) {
	mode, err := approval.FourEyes(ctx, tx)
	if err != nil || mode != approval.Required {
		return false, err
	}
	var alone bool
	if err := tx.QueryRow(ctx, aloneSQL, person, s.now().Add(-24*time.Hour)).Scan(&alone); err != nil {
		return false, fmt.Errorf("look for a second person: %w", err)
	}
	return !alone, nil
}

// DecideGrant is a second person's word on a role that waits. Nobody agrees to a
// role of their own.
func (s *Store) DecideGrant(ctx context.Context, p Principal, id uuid.UUID, yes bool, comment string) error {
	comment = strings.TrimSpace(comment)
	return s.db.Act(pg.WithReason(ctx, comment), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		action := audit.RoleApprove
		if !yes {
			action = audit.RoleDeny
		}
		req, err := s.asks.Decide(ctx, tx, p.Actor(), p.RoleNames(), id, approval.Word{Yes: yes, Comment: comment, Action: action})
		if err != nil || !yes {
			return err
		}
		var d struct {
			User uuid.UUID `json:"user_id"`
			Role Role      `json:"role"`
		}
		if err := json.Unmarshal(req.Detail, &d); err != nil || req.Kind != approval.RoleGrant || !ValidRole(d.Role) {
			return approval.ErrForged
		}
		if d.User == p.User.ID {
			return approval.ErrSamePerson
		}
		if req.Workspace != nil {
			if err := s.openWorkspace(ctx, tx, *req.Workspace); err != nil {
				return err
			}
		}
		return s.grant(ctx, tx, d.User, req.Workspace, []Role{d.Role}, req.RequestedBy.String())
	})
}

// RevokeRole takes a role away, at once: what somebody may no longer do waits for
// nobody. The last administrator of a workspace and the last operator stay.
func (s *Store) RevokeRole(ctx context.Context, p Principal, c RoleChange) error {
	if strings.TrimSpace(c.Reason) == "" {
		return ErrReasonRequired
	}
	return s.db.Act(pg.WithReason(ctx, c.Reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRolesSQL); err != nil {
			return fmt.Errorf("wait for other changes of roles: %w", err)
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.RoleRevoke, Workspace: c.Workspace, Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
			Targets: c.target(), Before: map[string]any{"user_id": c.User.String(), "role": string(c.Role)}, Reason: c.Reason})
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteRoleSQL, c.User, c.workspace(), c.Role)
		if err != nil {
			return fmt.Errorf("take role away: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		last := Admin
		if c.Workspace == uuid.Nil {
			last = Operator
		}
		if c.Role != last {
			return nil
		}
		var left bool
		if err := tx.QueryRow(ctx, roleLeftSQL, c.workspace(), last).Scan(&left); err != nil {
			return fmt.Errorf("look who is left: %w", err)
		}
		if !left {
			return ErrLastAdmin
		}
		return nil
	})
}

// someoneLeft refuses to leave a workspace without an administrator, or the
// installation without an operator.
func (s *Store) someoneLeft(ctx context.Context, tx pgx.Tx, user uuid.UUID) error {
	var orphaned bool
	if err := tx.QueryRow(ctx, orphanedSQL, user).Scan(&orphaned); err != nil {
		return fmt.Errorf("look who is left: %w", err)
	}
	if orphaned {
		return ErrLastAdmin
	}
	return nil
}

// AddUser makes an account with roles in a workspace, each of which waits for a
// second person where that is wanted.
func (s *Store) AddUser(ctx context.Context, p Principal, n NewUser, reason string) (u User, waiting []Role, err error) {
	roles := n.Roles
	n.Roles, n.InstallRoles = nil, nil
	if n.Workspace == uuid.Nil {
		n.Workspace = DefaultWorkspace
	}
	for _, r := range roles {
		if err := (RoleChange{Workspace: n.Workspace, Role: r, Reason: reason}).check(); err != nil {
			return User{}, nil, err
		}
	}
	var id uuid.UUID
	err = s.db.Act(pg.WithReason(ctx, reason), p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if id, err = s.createUser(ctx, tx, p.Actor(), n); err != nil {
			return err
		}
		for _, r := range roles {
			asked, err := s.grantOrAsk(ctx, tx, p, RoleChange{User: id, Workspace: n.Workspace, Role: r, Reason: reason})
			if err != nil {
				return err
			}
			if asked {
				waiting = append(waiting, r)
			}
		}
		return nil
	})
	if err != nil {
		return User{}, nil, err
	}
	u, err = s.user(ctx, userByIDSQL, id)
	return u, waiting, err
}

// Grant is a role that an account has.
type Grant struct {
	Workspace     *uuid.UUID `json:"workspace_id"` // nil: the whole installation
	WorkspaceName string     `json:"workspace"`
	Role          Role       `json:"role"`
	GrantedAt     time.Time  `json:"granted_at"`
	GrantedBy     string     `json:"granted_by"` // mail address, or a type of actor
}

// Account is a user with the grants that may be seen.
type Account struct {
	ID                 uuid.UUID
	Email, Name, State string
	MustChangePassword bool
	CreatedAt          time.Time
	LastLoginAt        *time.Time
	Grants             []Grant
	Elsewhere          bool // has roles that may not be seen here
}

// UserFilter selects accounts.
type UserFilter struct {
	ID         uuid.UUID // only this one
	Query      string    // part of address or name
	State      string
	Role       Role
	Workspaces []uuid.UUID // with roles there; nil: all
	Viewer     uuid.UUID   // who looks: sees itself, and what it has just made
	Cursor     string      // address of the last one of the page before
	Limit      int
}

// ListUsers lists accounts by address, and the cursor of the next page.
func (s *Store) ListUsers(ctx context.Context, f UserFilter) ([]Account, string, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	var only *uuid.UUID
	if f.ID != uuid.Nil {
		only = &f.ID
	}
	rows, err := s.db.Query(ctx, listUsersSQL, pg.PlanAnew, f.Workspaces, f.Viewer, f.Query, f.State, string(f.Role), f.Cursor, f.Limit+1, only)
	if err != nil {
		return nil, "", fmt.Errorf("list accounts: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Account])
	if err != nil {
		return nil, "", fmt.Errorf("list accounts: %w", err)
	}
	next := ""
	if len(list) > f.Limit {
		list = list[:f.Limit]
		next = list[f.Limit-1].Email
	}
	return list, next, nil
}

// AccountFor reads one account as a principal may see it.
func (s *Store) AccountFor(ctx context.Context, p Principal, id uuid.UUID) (Account, error) {
	f := s.UsersVisibleTo(p)
	f.ID = id
	list, _, err := s.ListUsers(ctx, f)
	if err != nil {
		return Account{}, err
	}
	if len(list) != 1 || id == uuid.Nil {
		return Account{}, ErrNotFound
	}
	return list[0], nil
}

// UsersVisibleTo is the filter of what a principal may see: who runs the
// installation sees all accounts, an administrator those of their workspaces.
func (s *Store) UsersVisibleTo(p Principal) UserFilter {
	f := UserFilter{Viewer: p.User.ID}
	if !p.CanInstall(WorkspacesWrite) {
		f.Workspaces, _ = p.Workspaces(UsersWrite)
	}
	return f
}

// MayChangeRole says whether a principal may give or take roles there.
func (p Principal) MayChangeRole(workspace uuid.UUID) bool {
	if workspace == uuid.Nil {
		return p.CanInstall(WorkspacesWrite)
	}
	return p.Can(UsersWrite, workspace)
}

// MaySetState says whether a principal may suspend or open an account: who runs
// the installation, or an administrator of all that the account has a role in.
func (p Principal) MaySetState(a Account) bool {
	if p.CanInstall(WorkspacesWrite) {
		return true
	}
	return p.Can(UsersWrite, uuid.Nil) && !a.Elsewhere && !slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.Workspace == nil || !p.Can(UsersWrite, *g.Workspace) })
}

// Approvals are the acts that wait for a second person.
func (s *Store) Approvals() *approval.Store { return s.asks }
