package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	sessionByIDSQL = pg.Query(queryFiles, "session_by_id")
	tokenByIDSQL   = pg.Query(queryFiles, "token_by_id")
)

// Resume finds out what somebody may do now, who has set off work that goes on
// after their call. Whoever has logged out, whose token is revoked or whose account
// is closed is [ErrNoSession]: nothing is done in their name any more.
func (s *Store) Resume(ctx context.Context, a pg.Actor) (Principal, error) {
	var p Principal
	var user uuid.UUID
	var err error
	switch now := s.now(); {
	case a.SessionID != uuid.Nil:
		p.SessionID = a.SessionID
		err = s.db.QueryRow(ctx, sessionByIDSQL, a.SessionID, now, now.Add(-s.policy.Idle)).Scan(&user, &p.AuthenticatedAt, &p.Method, &p.Provider, &p.Protocol, &p.Issuer, &p.MFA)
	case a.TokenID != uuid.Nil:
		p.TokenID, p.Method, p.limit = a.TokenID, "token", &tokenLimit{}
		var workspace *uuid.UUID
		err = s.db.QueryRow(ctx, tokenByIDSQL, a.TokenID, now).Scan(&user, &workspace, &p.limit.role, &p.limit.scopes)
		if workspace != nil {
			p.limit.workspace = *workspace
		}
	default:
		return p, ErrNoSession
	}
	if errors.Is(err, pgx.ErrNoRows) || err == nil && user != a.UserID {
		return Principal{}, ErrNoSession
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read who has set off a job: %w", err)
	}
	if err := s.load(ctx, &p, user); err != nil {
		return Principal{}, err
	}
	if p.SessionID != uuid.Nil {
		err = s.checkEnrolment(ctx, &p)
	}
	return p, err
}
