package identity

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// ResetPassword gives an account a one-time password, which must be changed at
// the first login, and ends its sessions. It is returned this once.
func (s *Store) ResetPassword(ctx context.Context, actor pg.Actor, roles []string, user uuid.UUID) (string, error) {
	once := rand.Text()[:20]
	hash, err := s.hasher.hash(ctx, once)
	if err != nil {
		return "", err
	}
	return once, s.onAccount(ctx, actor, roles, user, audit.PasswordReset, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, resetPasswordSQL, user, hash)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
}

// ResetFactors takes an account's second factors and recovery codes away, for
// somebody who has lost them all, and ends its sessions. Links with providers go too
// where there is a password: whoever had the account may have made one of their own.
func (s *Store) ResetFactors(ctx context.Context, actor pg.Actor, roles []string, user uuid.UUID) error {
	return s.onAccount(ctx, actor, roles, user, audit.MFAChange, func(tx pgx.Tx) error {
		for _, query := range []string{deleteTOTPSQL, deletePasskeysSQL, deleteRecoverySQL, deleteExternalsSQL} {
			if _, err := tx.Exec(ctx, query, user); err != nil {
				return err
			}
		}
		return nil
	})
}

// onAccount changes how somebody else can sign in.
func (s *Store) onAccount(ctx context.Context, actor pg.Actor, roles []string, user uuid.UUID, action string, change func(pgx.Tx) error) error {
	if _, err := s.user(ctx, userByIDSQL, user); err != nil {
		return err
	}
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if err := change(tx); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		if _, err := tx.Exec(ctx, endStepsSQL, user); err != nil {
			return fmt.Errorf("end logins that are half done: %w", err)
		}
		if err := s.endOthers(ctx, tx, actor, roles, user, uuid.Nil, endedByAdmin); err != nil {
			return err
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: action, ReasonCode: "reset", Severity: "warning", Actor: actor, Roles: roles, Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "user_account", ID: user.String()}}})
		return err
	})
}

// SetBreakGlass marks an account as one for emergencies, or no longer.
func (s *Store) SetBreakGlass(ctx context.Context, actor pg.Actor, user uuid.UUID, on bool) error {
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, setBreakGlassSQL, user, on)
		if err != nil {
			return fmt.Errorf("mark account for emergencies: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
}
