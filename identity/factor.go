package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"mailward/audit"
	"mailward/internal/pg"
)

// ErrConfirmed means that the second factor counts already.
var ErrConfirmed = errors.New("identity: there is one already: remove it first")

const (
	totpPeriod    = 30
	recoveryCodes = 10
	// stepUpAge is how fresh a step-up has to be for a change of one's own factors.
	stepUpAge = 10 * time.Minute
)

// ErrStepUp means that the person has to show again who they are.
var ErrStepUp = errors.New("identity: show again who you are first")

// Factors are what an account has beside a password.
type Factors struct {
	TOTP                        bool
	Passkeys                    int
	RecoveryLeft, RecoveryTotal int
}

// Any says whether the account has a second factor.
func (f Factors) Any() bool { return f.TOTP || f.Passkeys > 0 }

// Factors reads what an account has.
func (s *Store) Factors(ctx context.Context, user uuid.UUID) (f Factors, err error) {
	if err := s.db.QueryRow(ctx, factorsSQL, user).Scan(&f.TOTP, &f.Passkeys, &f.RecoveryLeft, &f.RecoveryTotal); err != nil {
		return f, fmt.Errorf("read second factors: %w", err)
	}
	return f, nil
}

// checkEnrolment takes the rights away from who should have a second factor by
// now and has none. A provider of single sign-on answers for its own people.
func (s *Store) checkEnrolment(ctx context.Context, p *Principal) error {
	if !s.policy.RequireSecondFactor || p.MFA || p.Provider != "local" {
		return nil
	}
	f, err := s.Factors(ctx, p.User.ID)
	if err != nil || f.Any() {
		return err
	}
	var due *time.Time
	if err := s.db.QueryRow(ctx, getFactorDueSQL, p.User.ID).Scan(&due); err != nil {
		return fmt.Errorf("read grace: %w", err)
	}
	if due == nil {
		err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, factorDueSQL, p.User.ID, s.now().Add(s.policy.Grace)).Scan(&due)
		})
		if err != nil {
			return fmt.Errorf("note grace: %w", err)
		}
	}
	p.EnrolBy = *due
	if p.MustEnrol = !s.now().Before(*due); p.MustEnrol {
		p.Roles, p.InstallRoles = nil, nil
	}
	return nil
}

// fresh says whether the person has shown who they are a moment ago.
func (s *Store) fresh(p Principal) error {
	if p.SessionID == uuid.Nil || s.now().Sub(p.AuthenticatedAt) > stepUpAge {
		return ErrStepUp
	}
	return nil
}

// seal encrypts a secret with the key of the host, bound to its place.
func (s *Store) seal(ctx context.Context, user uuid.UUID, what, secret string) ([]byte, error) {
	if s.sealer == nil {
		return nil, errors.New("identity: there is no key to keep secrets with")
	}
	return s.sealer.Wrap(ctx, []byte(secret), []byte(what+" "+user.String()))
}

func (s *Store) unseal(ctx context.Context, user uuid.UUID, what string, sealed []byte) (string, error) {
	if s.sealer == nil {
		return "", errors.New("identity: there is no key to read secrets with")
	}
	b, err := s.sealer.Unwrap(ctx, sealed, []byte(what+" "+user.String()))
	if err != nil {
		return "", fmt.Errorf("read secret %s: %w", what, err)
	}
	return string(b), nil
}

// BeginTOTP makes a secret and returns its otpauth:// address, for a QR code. It
// counts once [Store.ConfirmTOTP] has seen a code of it.
func (s *Store) BeginTOTP(ctx context.Context, p Principal) (*otp.Key, error) {
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "Mailward " + s.policy.Name, AccountName: p.User.Email, Period: totpPeriod, SecretSize: 20})
	if err != nil {
		return nil, fmt.Errorf("make secret: %w", err)
	}
	sealed, err := s.seal(ctx, p.User.ID, "totp", key.Secret())
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make id of secret: %w", err)
	}
	err = s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, putTOTPSQL, id, p.User.ID, sealed, s.now())
		if err != nil {
			return fmt.Errorf("store secret: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrConfirmed
		}
		return nil
	})
	return key, err
}

// PendingTOTP is the secret that waits for its first code.
func (s *Store) PendingTOTP(ctx context.Context, p Principal) (*otp.Key, error) {
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	secret, confirmed, _, err := s.totpSecret(ctx, p.User.ID)
	if err != nil || confirmed {
		return nil, errors.Join(ErrNotFound, err)
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		return nil, fmt.Errorf("decode secret: %w", err)
	}
	return totp.Generate(totp.GenerateOpts{Issuer: "Mailward " + s.policy.Name, AccountName: p.User.Email, Period: totpPeriod, Secret: raw})
}

func (s *Store) totpSecret(ctx context.Context, user uuid.UUID) (secret string, confirmed bool, last int64, err error) {
	var sealed []byte
	var at *time.Time
	err = s.db.QueryRow(ctx, totpSQL, user).Scan(&sealed, &at, &last)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, 0, ErrNotFound
	}
	if err != nil {
		return "", false, 0, fmt.Errorf("read secret: %w", err)
	}
	secret, err = s.unseal(ctx, user, "totp", sealed)
	return secret, at != nil, last, err
}

// matchTOTP finds the time step of a code: now, or one earlier or later, for
// clocks that are off (RFC 6238 §5.2). Steps that were taken count no more.
func matchTOTP(secret, code string, now time.Time, last int64) (int64, bool) {
	current := now.Unix() / totpPeriod
	for _, step := range []int64{current, current - 1, current + 1} {
		want, err := totp.GenerateCodeCustom(secret, time.Unix(step*totpPeriod, 0), totp.ValidateOpts{Period: totpPeriod, Digits: otp.DigitsSix})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > last {
			return step, true
		}
	}
	return 0, false
}

// takeTOTP checks a code and takes its time step, so that nobody who saw it can
// use it again. It fails with ErrBadCredentials.
func (s *Store) takeTOTP(ctx context.Context, actor pg.Actor, user uuid.UUID, code string, pending bool) error {
	secret, confirmed, last, err := s.totpSecret(ctx, user)
	if errors.Is(err, ErrNotFound) || err == nil && confirmed == pending {
		return ErrBadCredentials
	}
	if err != nil {
		return err
	}
	step, ok := matchTOTP(secret, digits(code), s.now(), last)
	if !ok {
		return ErrBadCredentials
	}
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, useTOTPSQL, user, step, s.now())
		if err != nil {
			return fmt.Errorf("take time step: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrBadCredentials // somebody was faster with the same code
		}
		return nil
	})
}

func digits(code string) string { return strings.ReplaceAll(strings.TrimSpace(code), " ", "") }

// ConfirmTOTP makes the pending secret count, and returns recovery codes where
// the account has none yet.
func (s *Store) ConfirmTOTP(ctx context.Context, p Principal, code string) ([]string, error) {
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	if err := s.tryCode(ctx, p); err != nil {
		return nil, err
	}
	if err := s.takeTOTP(ctx, p.Actor(), p.User.ID, code, true); err != nil {
		return nil, err
	}
	return s.firstRecoveryCodes(ctx, p)
}

// firstRecoveryCodes makes codes with the first second factor.
func (s *Store) firstRecoveryCodes(ctx context.Context, p Principal) ([]string, error) {
	f, err := s.Factors(ctx, p.User.ID)
	if err != nil || f.RecoveryTotal > 0 {
		return nil, err
	}
	return s.RecoveryCodes(ctx, p)
}

// tryCode counts a guess of a code by somebody who is signed in.
func (s *Store) tryCode(ctx context.Context, p Principal) error {
	r, _ := pg.RequestFrom(ctx)
	if v := s.throttle.Attempt(ctx, p.User.ID.String()+" second", r.SourceIP, func() bool { return true }); !v.OK() {
		return s.stepUpFailed(ctx, p, "totp", "throttled", &ThrottledError{Until: v.Until})
	}
	return nil
}

// ConfirmCode is a step-up with a code of the app. It returns the new cookie.
func (s *Store) ConfirmCode(ctx context.Context, p Principal, code string) (string, error) {
	if err := s.tryCode(ctx, p); err != nil {
		return "", err
	}
	err := s.takeTOTP(ctx, p.Actor(), p.User.ID, code, false)
	if errors.Is(err, ErrBadCredentials) {
		return "", s.stepUpFailed(ctx, p, "totp", "bad_code", err)
	}
	if err != nil {
		return "", err
	}
	return s.stepUp(ctx, p, "totp")
}

// RemoveTOTP takes the app's secret away.
func (s *Store) RemoveTOTP(ctx context.Context, p Principal) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	return s.changeFactors(ctx, p, deleteTOTPSQL, p.User.ID)
}

// changeFactors removes one; without any left the recovery codes go too.
func (s *Store) changeFactors(ctx context.Context, p Principal, query string, args ...any) error {
	return s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("remove second factor: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		var f Factors
		if err := tx.QueryRow(ctx, factorsSQL, p.User.ID).Scan(&f.TOTP, &f.Passkeys, &f.RecoveryLeft, &f.RecoveryTotal); err != nil {
			return fmt.Errorf("read second factors: %w", err)
		}
		if f.Any() {
			return nil
		}
		if _, err := tx.Exec(ctx, deleteRecoverySQL, p.User.ID); err != nil {
			return fmt.Errorf("remove recovery codes: %w", err)
		}
		return nil
	})
}

// RecoveryCodes makes new ones, in place of all earlier ones. They are returned
// this once: the database holds hashes.
func (s *Store) RecoveryCodes(ctx context.Context, p Principal) ([]string, error) {
	if err := s.fresh(p); err != nil {
		return nil, err
	}
	codes := make([]string, recoveryCodes)
	for i := range codes {
		t := strings.ToLower(rand.Text())
		codes[i] = t[0:4] + "-" + t[4:8] + "-" + t[8:12] + "-" + t[12:16]
	}
	err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, deleteRecoverySQL, p.User.ID); err != nil {
			return fmt.Errorf("remove recovery codes: %w", err)
		}
		for _, c := range codes {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make id of recovery code: %w", err)
			}
			if _, err := tx.Exec(ctx, insertRecoverySQL, id, p.User.ID, hashOf(plainCode(c)), s.now()); err != nil {
				return fmt.Errorf("store recovery code: %w", err)
			}
		}
		_, err := s.record.Append(ctx, tx, audit.Event{Action: audit.MFAChange, ReasonCode: "recovery_codes", Actor: p.Actor(), Roles: p.RoleNames(), Retention: audit.Retention3Years,
			Targets: []audit.Target{{Type: "user_account", ID: p.User.ID.String()}}, After: map[string]any{"codes": len(codes)}})
		return err
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

func plainCode(c string) string { return strings.ToLower(strings.ReplaceAll(digits(c), "-", "")) }

// useCode takes a code of the app or a recovery code, and says which it was.
func (s *Store) useCode(ctx context.Context, u User, code string) (string, error) {
	if len(plainCode(code)) == 6 {
		return "totp", s.takeTOTP(ctx, anonymous, u.ID, code, false)
	}
	err := s.db.Act(ctx, anonymous, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, useRecoverySQL, u.ID, hashOf(plainCode(code)), s.now())
		if err != nil {
			return fmt.Errorf("take recovery code: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrBadCredentials
		}
		_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.RecoveryCode, Severity: "warning", Actor: anonymous,
			Targets: []audit.Target{{Type: "user_account", ID: u.ID.String()}}})
		return err
	})
	return "recovery", err
}
