package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// FourEyes settings.
const (
	SingleOperator = "single_operator"
	Required       = "required"
)

// Bootstrap is what the first start is told. It counts only then.
type Bootstrap struct {
	Email    string // default admin@localhost
	Password string // default: a one-time one is made
	FourEyes string // default single_operator
}

// BootstrapResult says what the first start made.
type BootstrapResult struct {
	Created         bool
	Email           string
	OneTimePassword string // to be shown once and changed at the first login
}

// Bootstrap makes the first account, an admin of the default workspace who also
// runs and audits the installation, unless there is any account. Several
// processes may start at once.
func (s *Store) Bootstrap(ctx context.Context, b Bootstrap) (BootstrapResult, error) {
	if b.FourEyes == "" {
		b.FourEyes = SingleOperator
	}
	if b.FourEyes != SingleOperator && b.FourEyes != Required {
		return BootstrapResult{}, fmt.Errorf("%w: four_eyes is %s or %s", ErrInvalid, Required, SingleOperator)
	}
	var res BootstrapResult
	actor := pg.System("bootstrap", "first start")
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		res = BootstrapResult{}
		if _, err := tx.Exec(ctx, bootLockSQL); err != nil {
			return fmt.Errorf("wait for another first start: %w", err)
		}
		var any bool
		if err := tx.QueryRow(ctx, anyUserSQL).Scan(&any); err != nil {
			return fmt.Errorf("look for accounts: %w", err)
		}
		if any {
			return nil
		}
		n := NewUser{Email: b.Email, Name: "Administrator", Password: b.Password, Roles: []Role{Admin}, InstallRoles: []Role{Operator, Auditor}}
		if n.Email == "" {
			n.Email = "admin@localhost"
		}
		if n.Password == "" {
			n.Password, n.MustChange = rand.Text()[:20], true
			res.OneTimePassword = n.Password
		}
		if _, err := s.createUser(ctx, tx, actor, n); err != nil {
			return fmt.Errorf("make the first account: %w", err)
		}
		if _, err := tx.Exec(ctx, initSettingSQL, "four_eyes", b.FourEyes); err != nil {
			return fmt.Errorf("store four_eyes: %w", err)
		}
		res.Created, res.Email = true, n.Email
		return nil
	})
	if err != nil {
		return BootstrapResult{}, err
	}
	return res, nil
}

// FirstAdmin is the account that the first start made: the owner of tokens that
// name no other.
func (s *Store) FirstAdmin(ctx context.Context) (User, error) {
	us, err := s.Users(ctx)
	if err != nil {
		return User{}, err
	}
	for _, u := range us {
		roles, _, err := s.Grants(ctx, u.ID)
		if err != nil {
			return User{}, err
		}
		if may(roles[DefaultWorkspace], UsersWrite) && u.State == "active" {
			return u, nil
		}
	}
	return User{}, errors.Join(ErrNotFound, errors.New("there is no admin yet: start mailward once"))
}
