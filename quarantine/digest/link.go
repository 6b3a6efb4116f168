package digest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

var (
	linkSQL        = pg.Query(queryFiles, "link")
	insertLinkSQL  = pg.Query(queryFiles, "insert_link")
	useLinkSQL     = pg.Query(queryFiles, "use_link")
	expireLinksSQL = pg.Query(queryFiles, "expire_links")
)

// macSize is half of an HMAC-SHA256, which RFC 2104 §5 has as the least.
const macSize = 16

// Link is what stands behind one: a copy, for its recipient.
type Link struct {
	ID, Workspace, Item, Recipient uuid.UUID
	ExpiresAt                      time.Time
	UsedAt                         *time.Time
	Address                        string
	Copy                           quarantine.State
	Subject, From                  string
	Class                          policy.Class
	ReceivedAt                     time.Time
	// Ask says that a person is asked first.
	Ask bool
	// Language is that of the workspace's digests.
	Language string
}

// Usable says whether its form would do anything.
func (l Link) Usable() bool {
	return l.UsedAt == nil && (l.Copy == quarantine.Quarantined || l.Copy == quarantine.Held || l.Copy == quarantine.Failed)
}

// mac binds a link to the copy and the recipient that it is for, and to its end.
func (s *Store) mac(l Link) []byte {
	h := hmac.New(sha256.New, s.cfg.Key)
	fmt.Fprintf(h, "digest link\n%s\n%s\n%s\n%d\n", l.ID, l.Item, l.Recipient, l.ExpiresAt.Unix())
	return h.Sum(nil)[:macSize]
}

// token is what stands in the address.
func (s *Store) token(l Link) string {
	return base64.RawURLEncoding.EncodeToString(append(l.ID[:], s.mac(l)...))
}

// Look says what a link would do. It changes nothing.
func (s *Store) Look(ctx context.Context, token string) (Link, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 16+macSize {
		return Link{}, ErrLink
	}
	l := Link{ID: uuid.UUID(b[:16])}
	err = s.deps.DB.QueryRow(ctx, linkSQL, l.ID).Scan(&l.Workspace, &l.Item, &l.Recipient, &l.ExpiresAt, &l.UsedAt, &l.Address, &l.Copy, &l.Subject, &l.From, &l.Class, &l.ReceivedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Link{}, ErrLink
	}
	if err != nil {
		return Link{}, fmt.Errorf("read link of a digest: %w", err)
	}
	if !hmac.Equal(b[16:], s.mac(l)) || !l.ExpiresAt.After(s.now()) {
		return Link{}, ErrLink
	}
	set, err := s.Timetable(ctx, l.Workspace)
	if err != nil {
		return Link{}, err
	}
	l.Language = set.Language
	// The class and the rules may have changed since the digest was sent.
	switch l.Ask = !slices.Contains(set.Release, l.Class) || !slices.Contains(Releasable(), l.Class); {
	case l.Ask && (!slices.Contains(set.Request, l.Class) || !slices.Contains(Requestable(), l.Class)):
		return Link{}, ErrLink
	}
	return l, nil
}

// recipientActor is whoever has the link.
func recipientActor(l Link) pg.Actor {
	return pg.Actor{Type: pg.ActorRecipient, Email: l.Address, Display: "digest link, not logged in", AuthMethod: "digest_link"}
}

// Use does what a link is for, once.
func (s *Store) Use(ctx context.Context, token string) (Link, error) {
	l, err := s.Look(ctx, token)
	if err != nil {
		return l, err
	}
	if !l.Usable() {
		return l, ErrLink
	}
	actor := recipientActor(l)
	// In the release's own transaction: a link never counts as used for nothing.
	once := pg.Also(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, useLinkSQL, l.ID, s.now())
		if err == nil && tag.RowsAffected() == 0 {
			return ErrLink
		}
		return err
	})
	_, err = s.deps.Held.Release(once, actor, nil, l.Item, quarantine.ReleaseRequest{Reason: "wanted by the recipient, by the link of a digest", Code: "recipient_request",
		Recipients: []string{l.Address}, AskedBy: l.Recipient, Ask: l.Ask, AskedAs: l.Class})
	if err != nil {
		return l, fmt.Errorf("use link of a digest: %w", err)
	}
	return l, nil
}

// Seen puts on record that somebody has looked at what a link would do.
func (s *Store) Seen(ctx context.Context, l Link) error {
	return s.deps.Audit.Record(ctx, audit.Event{Action: audit.DigestView, Workspace: l.Workspace, Actor: recipientActor(l), Retention: audit.Retention400Days,
		Targets:     []audit.Target{{Type: "quarantine_item", ID: l.Item.String(), Label: string(l.Class)}, {Type: "quarantine_recipient", ID: l.Recipient.String(), PII: l.Address}},
		Correlation: audit.Correlation{ItemID: l.Item.String()}})
}
