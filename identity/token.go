package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// TokenPrefix makes tokens easy to find where they must not be.
const TokenPrefix = "mw_"

// APIToken is a token without its secret.
type APIToken struct {
	ID         uuid.UUID
	Workspace  *uuid.UUID // nil: the whole installation
	Name       string
	Role       Role
	OwnerID    uuid.UUID
	OwnerEmail string
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	LastUsedAt *time.Time
}

// NewToken is a token to be made.
type NewToken struct {
	Name      string
	Role      Role
	OwnerID   uuid.UUID
	Workspace uuid.UUID // zero: the whole installation
	Expires   time.Time // zero: never
}

// CreateToken makes a token and returns its secret, which nobody can read again.
func (s *Store) CreateToken(ctx context.Context, actor pg.Actor, n NewToken) (string, APIToken, error) {
	if !ValidRole(n.Role) {
		return "", APIToken{}, fmt.Errorf("%w: there is no role %q", ErrInvalid, n.Role)
	}
	if !n.Expires.IsZero() && !n.Expires.After(s.now()) {
		return "", APIToken{}, fmt.Errorf("%w: the token would have expired already", ErrInvalid)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", APIToken{}, fmt.Errorf("make token id: %w", err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	plain := TokenPrefix + hex.EncodeToString(secret)
	sum := sha256.Sum256([]byte(plain))
	t := APIToken{ID: id, Name: n.Name, Role: n.Role, OwnerID: n.OwnerID, CreatedAt: s.now()}
	if n.Workspace != uuid.Nil {
		t.Workspace = &n.Workspace
	}
	if !n.Expires.IsZero() {
		t.ExpiresAt = &n.Expires
	}
	owner, err := s.user(ctx, userByIDSQL, n.OwnerID)
	if err != nil {
		return "", APIToken{}, fmt.Errorf("owner of the token: %w", err)
	}
	t.OwnerEmail = owner.Email
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertTokenSQL, id, t.Workspace, sum[:], n.Name, n.Role, n.OwnerID, t.ExpiresAt); err != nil {
			return fmt.Errorf("insert token: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", APIToken{}, err
	}
	return plain, t, nil
}

// Token finds who a bearer token belongs to: its owner, with the token's role
// alone. ErrNoSession says that it belongs to nobody.
func (s *Store) Token(ctx context.Context, bearer string) (Principal, error) {
	if !strings.HasPrefix(bearer, TokenPrefix) {
		return Principal{}, ErrNoSession
	}
	sum := sha256.Sum256([]byte(bearer))
	var owner uuid.UUID
	var workspace *uuid.UUID
	var role Role
	var used *time.Time
	now := s.now()
	p := Principal{Method: "token"}
	err := s.db.QueryRow(ctx, tokenSQL, sum[:], now).Scan(&p.TokenID, &owner, &workspace, &role, &used)
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ErrNoSession
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read token: %w", err)
	}
	if p.User, err = s.user(ctx, userByIDSQL, owner); err != nil {
		return Principal{}, err
	}
	if p.User.State != "active" {
		return Principal{}, ErrNoSession
	}
	if workspace == nil {
		p.InstallRoles = []Role{role}
	} else {
		p.Roles = map[uuid.UUID][]Role{*workspace: {role}}
	}
	if used == nil || now.Sub(*used) > touchEvery {
		err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, touchTokenSQL, p.TokenID, now)
			return err
		})
		if err != nil {
			s.log.Warn("use of a token not noted", "error", err)
		}
	}
	return p, nil
}

// Tokens lists all tokens, newest first.
func (s *Store) Tokens(ctx context.Context) ([]APIToken, error) {
	rows, err := s.db.Query(ctx, tokensSQL)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	ts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t APIToken, err error) {
		err = row.Scan(&t.ID, &t.Workspace, &t.Name, &t.Role, &t.OwnerID, &t.OwnerEmail, &t.CreatedAt, &t.ExpiresAt, &t.RevokedAt, &t.LastUsedAt)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return ts, nil
}

// RevokeToken ends a token for good.
func (s *Store) RevokeToken(ctx context.Context, actor pg.Actor, id uuid.UUID) error {
	return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, revokeTokenSQL, id, s.now())
		if err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
}
