package webui

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/health"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// What the pages need from the rest of the program. The interfaces stand here,
// with their user; the packages below return their own structs.

// accounts logs people in and out.
type accounts interface {
	Login(ctx context.Context, email, password string, from netip.Addr, agent string) (token string, p *Person, err error)
	Logout(ctx context.Context, p *Person, back string) (elsewhere string, err error)
	Confirm(ctx context.Context, p *Person, password string) (token string, err error)
	ChangePassword(ctx context.Context, p *Person, old, new string) error
	Preferences(ctx context.Context, p *Person, locale, theme string) error
}

// What accounts answers that a page can show.
var (
	errBadCredentials = errors.New("webui: bad credentials")
	errWeakPassword   = errors.New("webui: password refused")
)

// throttledError says until when no login is tried.
type throttledError struct{ Until time.Time }

func (e throttledError) Error() string { return "webui: throttled until " + e.Until.String() }

// held is the quarantine.
type held interface {
	List(ctx context.Context, f quarantine.Filter) (quarantine.Page, error)
	Count(ctx context.Context, f quarantine.Filter) (quarantine.Counts, error)
	ListAndCount(ctx context.Context, f quarantine.Filter) (quarantine.Page, quarantine.Counts, error)
	Get(ctx context.Context, id uuid.UUID) (quarantine.Item, error)
	Raw(ctx context.Context, item quarantine.Item) (io.ReadCloser, error)
	Release(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, req quarantine.ReleaseRequest) (quarantine.Item, error)
	Delete(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (quarantine.Item, error)
	SendToSandbox(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (quarantine.Item, error)
	FourEyes(ctx context.Context) (string, error)
}

// mailView is a mail, taken apart by the sidecar. HTML is as the mail has it.
type mailView struct {
	Headers    []headerField
	Text, HTML string
	Inline     []inlineImage
	Truncated  bool
}

type headerField struct{ Name, Value, Raw string }

type inlineImage struct {
	CID, ContentType string
	Data             []byte
}

// opener takes a mail apart without this process reading its structure.
type opener interface {
	View(ctx context.Context, raw io.Reader) (mailView, error)
	// Part takes one file out, by its SHA-256 in hex.
	Part(ctx context.Context, raw io.Reader, sum string) ([]byte, error)
	// Zip packs a mail so that nothing opens it by mistake.
	Zip(ctx context.Context, name string, raw io.Reader, at time.Time) ([]byte, error)
}

// mails is the ledger.
type mails interface {
	Stats(ctx context.Context, workspaces []uuid.UUID, from, to time.Time, step time.Duration) ([]ledger.Bucket, error)
	Coverage(ctx context.Context, workspaces []uuid.UUID, from, to time.Time) ([]ledger.Gap, error)
	List(ctx context.Context, f ledger.Filter) (ledger.Page, error)
	Get(ctx context.Context, id uuid.UUID) (ledger.Row, []ledger.Outcome, error)
}

// record is the audit.
type record interface {
	List(ctx context.Context, f audit.Filter) (audit.Page, error)
	Record(ctx context.Context, ev audit.Event) error
	BeginExport(ctx context.Context, ev audit.Event) (audit.Event, error)
	Export(ctx context.Context, begun audit.Event, sel audit.Selection, w io.Writer) error
	Exports(ctx context.Context, owner uuid.UUID) ([]audit.ExportJob, error)
	Views(ctx context.Context, owner uuid.UUID) ([]audit.View, error)
	SaveView(ctx context.Context, who pg.Actor, name, query string) error
	DeleteView(ctx context.Context, who pg.Actor, id uuid.UUID) error
	Workspaces(ctx context.Context, only []uuid.UUID) ([]audit.Workspace, error)
	RecordLater(ctx context.Context, ev audit.Event)
	Status(ctx context.Context) (audit.Status, error)
	Findings(ctx context.Context) ([]string, error)
	Retention(ctx context.Context) ([]audit.RetentionClass, error)
	Purgeable(ctx context.Context) ([]audit.Month, error)
}

// monitor is the health of everything.
type monitor interface {
	Check(ctx context.Context) health.Report
	Latest() health.Report
	History(name string) health.History
	Read(ctx context.Context, name string, from time.Time, slot, span time.Duration) (map[string][]health.Slot, error)
	Changes(ctx context.Context, name string, most int) ([]health.Changed, error)
}
