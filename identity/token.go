package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	LastUsedIP *netip.Addr
	Scopes     []Right // none: all that the role has
}

// NewToken is a token to be made.
type NewToken struct {
	Name      string
	Role      Role
	OwnerID   uuid.UUID
	Workspace uuid.UUID // zero: the whole installation
	Expires   time.Time // zero: never
	Scopes    []Right   // none: all that the role has
}

// MayHandOut says whether the principal may be told the secret of such a token. A
// token that makes another, or renews one, would else get rid of its own limits.
func (p Principal) MayHandOut(n NewToken) bool {
	l := p.limit
	if l == nil {
		return true
	}
	if l.workspace != uuid.Nil && n.Workspace != l.workspace || l.expires != nil && (n.Expires.IsZero() || n.Expires.After(*l.expires)) {
		return false
	}
	wanted := n.Scopes
	if len(wanted) == 0 {
		wanted = grants(n.Role)
	}
	return !slices.ContainsFunc(wanted, func(r Right) bool {
		return !l.allows(r, l.workspace) && !(n.Workspace != uuid.Nil && installOnly(r)) // a token of a workspace never has those
	})
}

// MaxTokenGrace is how long the old secret of a token may still count.
const MaxTokenGrace = 7 * 24 * time.Hour

// newTokenSecret makes a token's secret, and the hash of it that is stored.
func newTokenSecret() (plain string, sum []byte) {
	secret := make([]byte, 32)
	rand.Read(secret)
	plain = TokenPrefix + hex.EncodeToString(secret)
	h := sha256.Sum256([]byte(plain))
	return plain, h[:]
}

// CreateToken makes a token and returns its secret, which nobody can read again.
func (s *Store) CreateToken(ctx context.Context, actor pg.Actor, n NewToken) (string, APIToken, error) {
	if !ValidRole(n.Role) {
		return "", APIToken{}, fmt.Errorf("%w: there is no role %q", ErrInvalid, n.Role)
	}
	if !n.Expires.IsZero() && !n.Expires.After(s.now()) {
		return "", APIToken{}, fmt.Errorf("%w: the token would have expired already", ErrInvalid)
	}
	for _, r := range n.Scopes {
		if !slices.Contains(grants(n.Role), r) {
			return "", APIToken{}, fmt.Errorf("%w: the role %s has no right %q", ErrInvalid, n.Role, r)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", APIToken{}, fmt.Errorf("make token id: %w", err)
	}
	plain, sum := newTokenSecret()
	t := APIToken{ID: id, Name: n.Name, Role: n.Role, Scopes: append([]Right{}, n.Scopes...), OwnerID: n.OwnerID, CreatedAt: s.now()}
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
		if _, err := tx.Exec(ctx, insertTokenSQL, id, t.Workspace, sum, n.Name, n.Role, n.OwnerID, t.ExpiresAt, t.Scopes); err != nil {
			return fmt.Errorf("insert token: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", APIToken{}, err
	}
	return plain, t, nil
}

// Token finds who a bearer token belongs to: its owner, cut down to what the
// token may. ErrNoSession says that it belongs to nobody; where it is one that
// ended, or whose owner is out, the error is a [DeadTokenError].
func (s *Store) Token(ctx context.Context, bearer string) (Principal, error) {
	if !strings.HasPrefix(bearer, TokenPrefix) {
		return Principal{}, ErrNoSession
	}
	sum := sha256.Sum256([]byte(bearer))
	var owner uuid.UUID
	var workspace *uuid.UUID
	var used, expires, revoked *time.Time
	var current bool
	var usedFrom *netip.Addr
	now := s.now()
	p := Principal{Method: "token", limit: &tokenLimit{}}
	err := s.db.QueryRow(ctx, tokenSQL, sum[:], now).Scan(&p.TokenID, &owner, &workspace, &p.limit.role, &p.limit.scopes, &used, &usedFrom, &expires, &revoked, &current)
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ErrNoSession
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read token: %w", err)
	}
	if p.User, err = s.user(ctx, userByIDSQL, owner); err != nil {
		return Principal{}, err
	}
	dead := ""
	switch {
	case revoked != nil:
		dead = "revoked"
	case !current:
		dead = "rotated"
	case expires != nil && !expires.After(now):
		dead = "expired"
	case p.User.State != "active":
		dead = "owner_" + p.User.State
	}
	if dead != "" {
		return Principal{}, &DeadTokenError{TokenID: p.TokenID, Owner: p.User.Email, Why: dead}
	}
	if p.limit.expires = expires; workspace != nil {
		p.limit.workspace = *workspace
	}
	if p.Roles, p.InstallRoles, err = s.Grants(ctx, owner); err != nil {
		return Principal{}, err
	}
	s.touchToken(ctx, p, used, usedFrom)
	return p, nil
}

// DeadTokenError says that a token was ours once. To the caller it is as unknown
// as any other; the record says whose it was.
type DeadTokenError struct {
	TokenID uuid.UUID
	Owner   string // mail address
	Why     string // revoked, rotated, expired, owner_locked, owner_disabled
}

func (e *DeadTokenError) Error() string { return "identity: the token is dead: " + e.Why }

// Is makes it one of ErrNoSession.
func (e *DeadTokenError) Is(target error) bool { return target == ErrNoSession }

// touchToken notes when and from where a token was used, at most once a minute
// from the same place.
func (s *Store) touchToken(ctx context.Context, p Principal, used *time.Time, usedFrom *netip.Addr) {
	var from *netip.Addr
	if r, ok := pg.RequestFrom(ctx); ok && r.SourceIP.IsValid() {
		a := r.SourceIP.Unmap().WithZone("")
		from = &a
	}
	now := s.now()
	samePlace := from == nil || usedFrom != nil && *usedFrom == *from
	if used != nil && now.Sub(*used) <= touchEvery && samePlace {
		return
	}
	err := s.db.Act(ctx, p.Actor(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, touchTokenSQL, p.TokenID, now, from)
		return err
	})
	if err != nil {
		s.log.Warn("use of a token not noted", "error", err)
	}
}

// Tokens lists all tokens, newest first.
func (s *Store) Tokens(ctx context.Context) ([]APIToken, error) {
	rows, err := s.db.Query(ctx, tokensSQL)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	ts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t APIToken, err error) {
		err = row.Scan(&t.ID, &t.Workspace, &t.Name, &t.Role, &t.Scopes, &t.OwnerID, &t.OwnerEmail, &t.CreatedAt, &t.ExpiresAt, &t.RevokedAt, &t.LastUsedAt, &t.LastUsedIP)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return ts, nil
}

// VisibleTokens are those that a principal may see and end: its own, those of
// workspaces in which it has that right, and all where it has it everywhere.
func (s *Store) VisibleTokens(ctx context.Context, p Principal) ([]APIToken, error) {
	ts, err := s.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ts, func(t APIToken) bool {
		switch {
		case t.OwnerID == p.User.ID:
			return false
		case t.Workspace != nil:
			return !p.Can(TokensWrite, *t.Workspace)
		}
		return !p.CanInstall(TokensWrite) && !p.CanInstall(WorkspacesWrite)
	}), nil
}

// RotateToken gives a token a new secret. The old one still counts for a while,
// so that a program can be told without a gap.
func (s *Store) RotateToken(ctx context.Context, actor pg.Actor, id uuid.UUID, grace time.Duration) (string, error) {
	if grace < 0 || grace > MaxTokenGrace {
		return "", fmt.Errorf("%w: the old secret can stay for %s at most", ErrInvalid, MaxTokenGrace)
	}
	plain, sum := newTokenSecret()
	err := s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		tag, err := tx.Exec(ctx, rotateTokenSQL, id, sum, now.Add(grace), now)
		if err != nil {
			return fmt.Errorf("rotate token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return plain, nil
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
