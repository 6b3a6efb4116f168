package quarantine

import (
	"cmp"
	"context"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"mailward/audit"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	insertItemSQL         = pg.Query(queryFiles, "insert_item")
	insertRecipientSQL    = pg.Query(queryFiles, "insert_recipient")
	findRetrySQL          = pg.Query(queryFiles, "find_retry")
	getSQL                = pg.Query(queryFiles, "get")
	recipientsSQL         = pg.Query(queryFiles, "recipients")
	lockRecipientsSQL     = pg.Query(queryFiles, "lock_recipients")
	setStateSQL           = pg.Query(queryFiles, "set_state")
	deriveStateSQL        = pg.Query(queryFiles, "set_item_state")
	itemsSQL              = pg.Query(queryFiles, "items")
	orderedSQL            = pg.Query(queryFiles, "ordered")
	walkSQL               = pg.Query(queryFiles, "walk")
	gatherSQL             = pg.Query(queryFiles, "gather")
	unindexedSQL          = pg.Query(queryFiles, "unindexed")
	setTermsSQL           = pg.Query(queryFiles, "set_terms")
	countsSQL             = pg.Query(queryFiles, "counts")
	insertReleaseSQL      = pg.Query(queryFiles, "insert_release")
	insertDeliverySQL     = pg.Query(queryFiles, "insert_delivery")
	pendingReleaseSQL     = pg.Query(queryFiles, "pending_release")
	insertApprovalSQL     = pg.Query(queryFiles, "insert_approval")
	decideReleaseSQL      = pg.Query(queryFiles, "decide_release")
	releaseSQL            = pg.Query(queryFiles, "release")
	eventBytesSQL         = pg.Query(queryFiles, "event_bytes")
	approvalsSQL          = pg.Query(queryFiles, "approvals")
	expiredSQL            = pg.Query(queryFiles, "expired")
	blobRemovedSQL        = pg.Query(queryFiles, "blob_removed")
	sameCopySQL           = pg.Query(queryFiles, "same_copy")
	markLateSQL           = pg.Query(queryFiles, "mark_late")
	setReplySQL           = pg.Query(queryFiles, "set_reply")
	closeReleaseSQL       = pg.Query(queryFiles, "close_release")
	sandboxPartsSQL       = pg.Query(queryFiles, "sandbox_parts")
	addSandboxFindingsSQL = pg.Query(queryFiles, "add_sandbox_findings")
	itemNowSQL            = pg.Query(queryFiles, "item_now")
	itemPlaceSQL          = pg.Query(queryFiles, "item_place")
	addRecipientSQL       = pg.Query(queryFiles, "add_recipient")
	clearStopSQL          = pg.Query(queryFiles, "clear_stop")
	repeatDeliverySQL     = pg.Query(queryFiles, "repeat_delivery")
	underWaySQL           = pg.Query(queryFiles, "under_way")
	stopDeliveriesSQL     = pg.Query(queryFiles, "stop_deliveries")
	endReleaseSQL         = pg.Query(queryFiles, "end_release")
	isRecipientSQL        = pg.Query(queryFiles, "is_recipient")
	expiredRequestsSQL    = pg.Query(queryFiles, "expired_requests")
	modeAllowedSQL        = pg.Query(queryFiles, "mode_allowed")
)

// Config holds the settings of the quarantine.
type Config struct {
	// KeepFor is how long a held mail is kept. Default: 30 days.
	KeepFor time.Duration
	// GiveUpAfter is how long the delivery of a released mail is tried. Default: 5 days.
	GiveUpAfter time.Duration
	// TakeBack is how long a release waits before it begins, so that it can be taken back. Default: 10 s.
	TakeBack time.Duration
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig() Config {
	return Config{KeepFor: 30 * 24 * time.Hour, GiveUpAfter: 5 * 24 * time.Hour, TakeBack: 10 * time.Second}
}

// Store keeps the items.
type Store struct {
	cfg     Config
	db      *pg.DB
	blobs   *Blobs
	audit   *audit.Log
	log     *slog.Logger
	now     func() time.Time
	sandbox SandboxQueue // nil: none is set up
	served  func(address string, workspace uuid.UUID) bool
	engines Engines
}

// New returns a Store. It connects to nothing.
func New(cfg Config, db *pg.DB, blobs *Blobs, log *audit.Log, logger *slog.Logger) *Store {
	return &Store{cfg: cfg, db: db, blobs: blobs, audit: log, log: logger, now: time.Now}
}

// UseRoutes says which addresses a workspace serves. Without it a mail can be
// released to its own recipients only.
func (s *Store) UseRoutes(served func(address string, workspace uuid.UUID) bool) { s.served = served }

// Blobs is where the bytes are, for the delivery queue.
func (s *Store) Blobs() *Blobs { return s.blobs }

// Hold is a mail to be kept back, for some of its recipients.
type Hold struct {
	Envelope    message.Envelope
	Spool       *message.Spool
	Workspace   uuid.UUID
	Direction   policy.Direction // "": inbound
	Class       policy.Class
	Score       float64
	Reasons     []string
	Report      policy.Report
	Recipients  []policy.RecipientDecision
	TraceHeader []byte // what goes on top when it is sent
	HeaderEdits []message.Range
	Auth        json.RawMessage
	Wishes      map[string]Wish // by address, where the client gave any
	Links       []string        // where it leads, as [Links] writes it
}

// Wish is what the client said of a recipient besides its address (RFC 3461
// §4.1 and §4.2). It goes on with a release.
type Wish struct{ Notify, ORCPT string }

// retryWindow is how long the same mail from the same sender to the same
// recipients counts as the client's second try after a reply that was lost.
const retryWindow = 4 * time.Hour

// Hold stores a mail durably and returns its item. The file comes first, then
// one transaction with the rows and the audit event. After an error nothing of
// it may be believed to be there, although it may be: the client tries again.
func (s *Store) Hold(ctx context.Context, h Hold) (uuid.UUID, error) {
	if id, ok, err := s.findRetry(ctx, h); err != nil || ok {
		return id, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make item id: %w", err)
	}
	sum := h.Spool.SHA256()
	c := Content{Workspace: h.Workspace, Sum: sum[:], Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(h.Spool.NewReader()), nil }}
	actor := pg.System("gateway", "mail "+h.Envelope.ID.String())
	err = s.Keep(ctx, c, func(k *Kept) error {
		return s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
			name, err := s.Claim(ctx, tx, k)
			if err != nil {
				return err
			}
			if err := s.insert(ctx, tx, id, name, h); err != nil {
				return err
			}
			if _, err := s.audit.Append(ctx, tx, holdEvent(actor, id, h)); err != nil {
				return err
			}
			return s.askSandbox(ctx, tx, id, h)
		})
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("hold mail %s: %w", h.Envelope.ID, err)
	}
	return id, nil
}

func holdEvent(actor pg.Actor, id uuid.UUID, h Hold) audit.Event {
	targets := []audit.Target{{Type: "quarantine_item", ID: id.String(), Label: string(h.Class)}, {Type: "mail", ID: h.Envelope.ID.String()}}
	for _, r := range h.Recipients {
		targets = append(targets, audit.Target{Type: "mailbox", ID: r.Domain, PII: r.Address})
	}
	var found []string
	for _, f := range h.Report.Findings {
		found = append(found, f.Engine+": "+f.Name)
	}
	sum := h.Spool.SHA256() // sealed with the event: an export is compared with it
	return audit.Event{Action: audit.ItemCreate, Workspace: h.Workspace, Actor: actor, Targets: targets, Retention: audit.Retention3Years,
		Reason: policy.ForRecord(h.Reasons, h.Report.Findings), ReasonCode: string(h.Class), After: map[string]any{"class": string(h.Class), "findings": found, "sha256": hex.EncodeToString(sum[:])},
		Correlation: audit.Correlation{MailID: h.Envelope.ID.String(), ItemID: id.String()}}
}

// findRetry finds the item that an earlier try of the same client has made, as
// long as nobody has touched it.
func (s *Store) findRetry(ctx context.Context, h Hold) (uuid.UUID, bool, error) {
	sum := h.Spool.SHA256()
	var addrs []string
	for _, r := range h.Recipients {
		addrs = append(addrs, strings.ToLower(r.Address))
	}
	slices.Sort(addrs)
	var id uuid.UUID
	err := s.db.QueryRow(ctx, findRetrySQL, h.Workspace, sum[:], h.Envelope.From, s.now().Add(-retryWindow), addrs).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, false, nil
	}
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("look for an earlier try of mail %s: %w", h.Envelope.ID, err)
	}
	s.log.Info("mail is held already", "mail", h.Envelope.ID, "item", id)
	return id, true, nil
}

func (s *Store) insert(ctx context.Context, tx pgx.Tx, id uuid.UUID, blob string, h Hold) error {
	reasons, err1 := marshal(h.Reasons)
	findings, err2 := marshal(h.Report.Findings)
	engines, err3 := marshal(h.Report.Engines)
	parts, err4 := marshal(h.Report.Parts)
	edits, err5 := marshal(h.HeaderEdits)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return fmt.Errorf("encode item: %w", err)
	}
	auth := h.Auth
	if auth == nil {
		auth = json.RawMessage("{}")
	}
	trace := h.TraceHeader
	if trace == nil {
		trace = []byte{} // a nil slice would be NULL
	}
	rule, err := releaseRule(ctx, tx, h.Workspace, h.Class)
	if err != nil {
		return err
	}
	keep := cmp.Or(rule.Keep, s.cfg.KeepFor)
	sum := h.Spool.SHA256()
	var ip *string
	if h.Envelope.ClientIP.IsValid() {
		a := h.Envelope.ClientIP.Unmap().String()
		ip = &a
	}
	states := make([]State, 0, len(h.Recipients))
	for _, r := range h.Recipients {
		states = append(states, stateFor(r.Action))
	}
	found := h.searchable()
	_, err = tx.Exec(ctx, insertItemSQL, id, h.Workspace, h.Envelope.ID, string(h.Class), h.Score, h.Envelope.ReceivedAt, s.now().Add(keep), ip,
		clean(h.Envelope.Helo), clean(h.Envelope.From), clean(h.Report.HeaderFrom), clean(h.Report.Subject), clean(h.Report.MessageID),
		h.Spool.Size(), sum[:], reasons, findings, engines, parts, []byte(auth), edits, trace, h.Envelope.SMTPUTF8, h.Spool.EightBit(), blob, string(derive(states)), clean(h.Envelope.Ret), clean(h.Envelope.EnvID), string(cmp.Or(h.Direction, policy.Inbound)),
		found.terms(h.links()), found.words(), h.links())
	if err != nil {
		return fmt.Errorf("insert item: %w", err)
	}
	for i, r := range h.Recipients {
		rid, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make recipient id: %w", err)
		}
		if _, err := tx.Exec(ctx, insertRecipientSQL, rid, h.Workspace, id, clean(r.Address), string(states[i]), clean(h.Wishes[r.Address].Notify), clean(h.Wishes[r.Address].ORCPT)); err != nil {
			return fmt.Errorf("insert recipient of item: %w", err)
		}
	}
	return nil
}

func stateFor(a policy.Action) State {
	if a == policy.Hold {
		return Held
	}
	return Quarantined
}

// marshal makes JSON that jsonb takes: it has no NUL.
func marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if string(b) == "null" {
		return []byte("[]"), nil
	}
	return []byte(strings.ReplaceAll(string(b), `\u0000`, "")), nil
}

func clean(s string) string { return pg.Text(s) }

// Get reads one item.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Item, error) {
	rows, err := s.db.Query(ctx, getSQL, id)
	if err != nil {
		return Item{}, fmt.Errorf("read item: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanItem)
	if err != nil {
		return Item{}, fmt.Errorf("read item: %w", err)
	}
	if len(items) == 0 {
		return Item{}, ErrNotFound
	}
	if items[0].Sandbox, err = s.sandboxParts(ctx, id); err != nil {
		return Item{}, err
	}
	if items[0].Releases, err = s.openReleases(ctx, id); err != nil {
		return Item{}, err
	}
	return items[0], s.addRecipients(ctx, items)
}

func scanItem(row pgx.CollectableRow) (i Item, err error) {
	var ip *string
	var sum, reasons, findings, engines, parts, edits, rescan []byte
	err = row.Scan(&i.ID, &i.MailID, &i.Workspace, &i.Class, &i.State, &i.Score, &i.ReceivedAt, &i.ExpiresAt, &ip, &i.Helo, &i.EnvelopeFrom,
		&i.HeaderFrom, &i.Subject, &i.MessageID, &i.Size, &sum, &reasons, &findings, &engines, &parts, &i.Auth, &edits, &i.traceHeader,
		&i.smtputf8, &i.eightBit, &i.ref.Key, &i.ref.Name, &i.BlobRemovedAt, &i.Direction, &i.MaliciousLateAt, &rescan, &i.StoppedAt, &i.LegalHoldAt, &i.LegalHoldReason)
	if err != nil {
		return i, err
	}
	if ip != nil {
		i.ClientIP = *ip
	}
	i.SHA256 = hex.EncodeToString(sum)
	if err := i.readRescan(rescan); err != nil {
		return i, err
	}
	return i, errors.Join(json.Unmarshal(reasons, &i.Reasons), json.Unmarshal(findings, &i.Findings), json.Unmarshal(engines, &i.Engines),
		json.Unmarshal(parts, &i.Parts), json.Unmarshal(edits, &i.headerEdits))
}

func (s *Store) addRecipients(ctx context.Context, items []Item) error {
	if len(items) == 0 {
		return nil
	}
	ids, at := make([]uuid.UUID, len(items)), map[uuid.UUID]int{}
	for n := range items {
		ids[n], at[items[n].ID] = items[n].ID, n
	}
	rows, err := s.db.Query(ctx, recipientsSQL, ids)
	if err != nil {
		return fmt.Errorf("read recipients of items: %w", err)
	}
	var item uuid.UUID
	var r ItemRecipient
	_, err = pgx.ForEachRow(rows, []any{&item, &r.ID, &r.Address, &r.State, &r.ReplyCode, &r.ReplyText, &r.UpdatedAt, &r.ReplyHost, &r.ReplyAt, &r.Added}, func() error {
		n := at[item]
		items[n].Recipients = append(items[n].Recipients, r)
		return nil
	})
	return err
}

// Raw reads the exact bytes of a held mail. The caller has put the view on record.
func (s *Store) Raw(ctx context.Context, i Item) (io.ReadCloser, error) {
	if i.BlobRemovedAt != nil {
		return nil, ErrGone
	}
	return s.blobs.Open(ctx, i.ref)
}

// File decrypts a held mail into a file that lives in memory and that nobody
// can change, for the sidecar. The caller closes it.
func (s *Store) File(ctx context.Context, i Item) (*os.File, error) {
	r, err := s.Raw(ctx, i)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	fd, err := unix.MemfdCreate("item", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "item")
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return nil, fmt.Errorf("decrypt item %s: %w", i.ID, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	return f, nil
}
