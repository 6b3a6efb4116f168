package quarantine

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/policy"
)

// State is where a recipient's copy is.
type State string

// The states of a recipient's copy.
const (
	Held             State = "held" // waits for the sandbox
	Quarantined      State = "quarantined"
	ReleaseRequested State = "release_requested" // waits for a second person
	ReleaseScheduled State = "release_scheduled"
	Delivering       State = "delivering"
	Released         State = "released"
	Failed           State = "failed"
	OutcomeUnknown   State = "outcome_unknown" // the next hop's last reply was lost
	Denied           State = "denied"
	Deleted          State = "deleted"
	Expired          State = "expired"
)

// States lists the states, in the order in which one of them speaks for an item
// whose recipients differ: what somebody has to look at comes first.
func States() []State {
	return []State{Delivering, ReleaseScheduled, ReleaseRequested, OutcomeUnknown, Failed, Held, Quarantined, Released, Denied, Expired, Deleted}
}

// derive makes an item's state from those of its recipients.
func derive(states []State) State {
	for _, s := range States() {
		if slices.Contains(states, s) {
			return s
		}
	}
	return Quarantined
}

// releasable are the states from which a copy can be released.
func (s State) releasable() bool {
	return s == Held || s == Quarantined || s == Failed || s == Denied
}

// deletable are the states from which a copy can be deleted.
func (s State) deletable() bool {
	return s == Held || s == Quarantined || s == Failed || s == Denied || s == Released || s == OutcomeUnknown
}

// Errors that a caller can act on.
var (
	ErrNotFound       = errors.New("quarantine: item not found")
	ErrState          = errors.New("quarantine: not possible in this state")
	ErrReasonRequired = errors.New("quarantine: a reason is required")
	ErrNoRecipient    = errors.New("quarantine: the mail has no such recipient")
	ErrGone           = errors.New("quarantine: the mail's bytes are gone")
	ErrReasonCode     = errors.New("quarantine: there is no such reason code")
	ErrNotServed      = errors.New("quarantine: a further recipient must be of a domain that the workspace serves")
	ErrTooLate        = errors.New("quarantine: it is too late to take the release back")
	ErrStopped        = errors.New("quarantine: a scan at release found worse; somebody must insist")
	ErrOwnMail        = errors.New("quarantine: a recipient of the mail may not agree to its release")
	ErrLegalHold      = errors.New("quarantine: the mail is under a legal hold, or an export of it waits")
	ErrBadRule        = errors.New("quarantine: people must be 0 to 2, hours 0 to 720, days 0 to 3650, of a class that is held")
	ErrEnginesSilent  = errors.New("quarantine: not every engine has answered")
	// ErrReleaseForged means that a release is not what a person decided.
	ErrReleaseForged = errors.New("quarantine: release without a matching decision")
)

// ItemRecipient is one recipient's copy.
type ItemRecipient struct {
	ID        uuid.UUID `json:"id"`
	Address   string    `json:"address"`
	State     State     `json:"state"`
	ReplyCode int       `json:"reply_code,omitempty"`
	ReplyText string    `json:"reply_text,omitempty"`
	UpdatedAt time.Time `json:"updated_at"`
	// ReplyHost is the host of the next hop that answered, and ReplyAt is when.
	ReplyHost string     `json:"reply_host,omitempty"`
	ReplyAt   *time.Time `json:"reply_at,omitempty"`
	// Added is no recipient of the mail: a release went there besides.
	Added bool `json:"added,omitempty"`
}

// Item is a mail that is held back.
type Item struct {
	ID            uuid.UUID             `json:"id"`
	MailID        uuid.UUID             `json:"mail_id"`
	Workspace     uuid.UUID             `json:"workspace_id"`
	Direction     policy.Direction      `json:"direction"`
	Class         policy.Class          `json:"class"`
	State         State                 `json:"state"`
	Score         float64               `json:"score"`
	ReceivedAt    time.Time             `json:"received_at"`
	ExpiresAt     time.Time             `json:"expires_at"`
	ClientIP      string                `json:"client_ip"`
	Helo          string                `json:"helo"`
	EnvelopeFrom  string                `json:"envelope_from"`
	HeaderFrom    string                `json:"header_from"`
	Subject       string                `json:"subject"`
	MessageID     string                `json:"message_id"`
	Size          int64                 `json:"size"`
	SHA256        string                `json:"sha256"`
	Recipients    []ItemRecipient       `json:"recipients"`
	Reasons       []string              `json:"reasons"`
	Findings      []policy.Finding      `json:"findings"`
	Engines       []policy.EngineAnswer `json:"engines"`
	Parts         []policy.Part         `json:"parts"`
	Auth          json.RawMessage       `json:"auth"`
	BlobRemovedAt *time.Time            `json:"blob_removed_at,omitempty"`
	// MaliciousLateAt is when the sandbox called it malicious although it was
	// decided, and perhaps delivered, before that was known.
	MaliciousLateAt *time.Time `json:"malicious_late_at,omitempty"`
	// Sandbox is what the sandbox was asked, the latest first; only where one item is read.
	Sandbox []SandboxPart `json:"sandbox,omitempty"`
	// Rescan is what the engines said the last time that they were asked again, and
	// StoppedAt is when that stopped a release on which nobody has insisted since.
	Rescan    *Rescan    `json:"rescan,omitempty"`
	StoppedAt *time.Time `json:"stopped_at,omitempty"`
	// LegalHoldAt is since when it is neither deleted nor expires.
	LegalHoldAt     *time.Time `json:"legal_hold_at,omitempty"`
	LegalHoldReason string     `json:"legal_hold_reason,omitempty"`
	// Releases are those that wait for a person or for their time, or are under
	// way; only where one item is read.
	Releases []OpenRelease `json:"releases,omitempty"`

	ref         Ref
	headerEdits []message.Range
	traceHeader []byte
	smtputf8    bool
	eightBit    bool
}

// Addresses lists the recipients' addresses.
func (i Item) Addresses() []string {
	out := make([]string, len(i.Recipients))
	for n, r := range i.Recipients {
		out[n] = r.Address
	}
	return out
}

// HeaderEdits are the fields that are left out when the mail is sent.
func (i Item) HeaderEdits() []message.Range { return i.headerEdits }

// Releasable lists the recipients to whom the mail can be released now.
func (i Item) Releasable() []ItemRecipient {
	if i.BlobRemovedAt != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.Recipients), func(r ItemRecipient) bool { return !r.State.releasable() })
}

// Deletable says whether there is something left to delete.
func (i Item) Deletable() bool {
	return slices.ContainsFunc(i.Recipients, func(r ItemRecipient) bool { return r.State.deletable() }) &&
		!slices.ContainsFunc(i.Recipients, func(r ItemRecipient) bool {
			return r.State == Delivering || r.State == ReleaseScheduled || r.State == ReleaseRequested
		})
}
