package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// stepLife is how long a sign-in or a ceremony may be half done.
const stepLife = 10 * time.Minute

// The kinds of steps.
const (
	stepSecondFactor = "second_factor"
	stepSSO          = "sso"
	stepPasskeyLogin = "passkey_login"
	stepPasskeyAdd   = "passkey_add"
	stepAct          = "act"
)

// ErrStep means that a half-done sign-in or ceremony is not there: ended, too
// old, or another browser's.
var ErrStep = errors.New("identity: this was ended already, or took too long")

// newSecret makes a random token and the hash of it that the database holds.
func newSecret() (token string, hash []byte) {
	b := make([]byte, 32)
	rand.Read(b)
	token = base64.RawURLEncoding.EncodeToString(b)
	return token, hashOf(token)
}

func hashOf(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// step is one that was found.
type step struct {
	User, Session uuid.UUID
}

// anonymous is who acts before a sign-in has ended.
var anonymous = pg.Actor{Type: pg.ActorAnonymous, AuthMethod: "none"}

// newStep keeps what a later call needs. The processes hold no state, and the
// browser cannot change it.
func (s *Store) newStep(ctx context.Context, kind string, of step, data any) (string, error) {
	token, _ := newSecret()
	return token, s.putStep(ctx, kind, token, of, data)
}

// putStep is newStep with a token that the caller has made.
func (s *Store) putStep(ctx context.Context, kind, token string, of step, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode %s step: %w", kind, err)
	}
	hash, now := hashOf(token), s.now()
	return s.db.Act(ctx, anonymous, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, purgeStepsSQL, now); err != nil {
			return fmt.Errorf("take out old steps: %w", err)
		}
		if _, err := tx.Exec(ctx, insertStepSQL, hash, kind, pg.NullID(of.User), pg.NullID(of.Session), b, now.Add(stepLife)); err != nil {
			return fmt.Errorf("store %s step: %w", kind, err)
		}
		return nil
	})
}

// mayBegin counts a sign-in that begins before anybody has shown who they are.
func (s *Store) mayBegin(ctx context.Context) error {
	r, _ := pg.RequestFrom(ctx)
	v := s.throttle.Begun(ctx, r.SourceIP)
	if v.First {
		s.log.Warn("too many sign-ins are begun from one address", "from", r.SourceIP, "until", v.Until)
	}
	if !v.OK() {
		return &ThrottledError{Until: v.Until}
	}
	return nil
}

// peekStep reads a step and leaves it.
func (s *Store) peekStep(ctx context.Context, kind, token string, data any) (step, error) {
	return readStep(kind, data, s.db.QueryRow(ctx, peekStepSQL, hashOf(token), kind, s.now()))
}

// takeStep reads a step and takes it out: nobody else can end it.
func (s *Store) takeStep(ctx context.Context, kind, token string, data any) (of step, err error) {
	err = s.db.Act(ctx, anonymous, func(ctx context.Context, tx pgx.Tx) error {
		of, err = readStep(kind, data, tx.QueryRow(ctx, takeStepSQL, hashOf(token), kind, s.now()))
		return err
	})
	return of, err
}

func readStep(kind string, data any, row pgx.Row) (of step, err error) {
	var user, session *uuid.UUID
	var b []byte
	err = row.Scan(&user, &session, &b)
	if errors.Is(err, pgx.ErrNoRows) {
		return of, ErrStep
	}
	if err != nil {
		return of, fmt.Errorf("read %s step: %w", kind, err)
	}
	if err := json.Unmarshal(b, data); err != nil {
		return of, fmt.Errorf("decode %s step: %w", kind, err)
	}
	if user != nil {
		of.User = *user
	}
	if session != nil {
		of.Session = *session
	}
	return of, nil
}
