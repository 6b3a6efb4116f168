// Package policy decides what happens to a mail, and keeps the domains and
// policies that say so.
//
// On a mail's path it stands between the scanner and everything that acts:
// [Decide] takes what the engines found and the policy of each recipient and
// returns a value. It reads nothing, writes nothing and cannot fail; that a
// mail is malicious is a result, never an error. [Store] serves the policies
// from memory, so that a slow database delays no mail.
//
// The package also holds the words that all others use for a mail's class and
// for what is done with it.
package policy

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// DefaultWorkspace is the workspace of an installation that has only one.
var DefaultWorkspace = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// Class is what a mail is.
type Class string

// The classes. Broken is malformed, but every reading of it was scanned;
// unscannable hit a limit or would not open; encrypted is S/MIME or PGP for
// the recipient.
const (
	Clean       Class = "clean"
	Spam        Class = "spam"
	Phishing    Class = "phishing"
	Malware     Class = "malware"
	Suspicious  Class = "suspicious"
	DLP         Class = "dlp"
	Encrypted   Class = "encrypted"
	Broken      Class = "broken"
	Unscannable Class = "unscannable"
)

// Classes lists all classes, the gravest first: a mail with several findings
// is of the first of them.
func Classes() []Class {
	return []Class{Malware, Phishing, DLP, Unscannable, Suspicious, Spam, Broken, Encrypted, Clean}
}

// Action is what is done with a mail.
type Action string

// The actions. Mixed is not one: it says that recipients differ.
const (
	Deliver    Action = "deliver"
	Tag        Action = "tag"
	Quarantine Action = "quarantine"
	Hold       Action = "hold"
	Reject     Action = "reject"
	Defer      Action = "defer"
	Mixed      Action = "mixed"
)

// Actions lists the actions that a policy may name.
func Actions() []Action { return []Action{Deliver, Tag, Quarantine, Hold, Reject, Defer} }

// Direction is which way a recipient's copy goes.
type Direction string

// The directions. Inbound is mail to a domain that we serve, whoever sends it;
// outbound is mail of our own people to the rest of the world.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// DefaultActions is what is done where no policy says anything else. Outbound
// there is no mailbox of ours that a tag could help: what would be tagged goes
// out, but spam is held, since it says that somebody sends in our name, and a
// domain that sends spam is soon on every block list.
func DefaultActions(d Direction) map[Class]Action {
	a := map[Class]Action{
		Clean: Deliver, Spam: Tag, Broken: Tag, Encrypted: Tag, Suspicious: Hold,
		Phishing: Quarantine, Malware: Quarantine, DLP: Quarantine, Unscannable: Quarantine,
	}
	if d == Outbound {
		a[Spam], a[Broken], a[Encrypted] = Quarantine, Deliver, Deliver
	}
	return a
}

// Finding is one thing that an engine found. With a class it decides by itself;
// without one it is a sign, which counts by its score, together with others,
// against the thresholds of each recipient's policy.
type Finding struct {
	Engine   string            `json:"engine"`
	Name     string            `json:"name"` // signature, rule or symbol
	Class    Class             `json:"class,omitempty"`
	Score    float64           `json:"score"`
	Part     string            `json:"part,omitempty"` // path of the part, 1.2.1
	PartName string            `json:"part_name,omitempty"`
	Reason   string            `json:"reason"` // a sentence for people
	Meta     map[string]string `json:"meta,omitempty"`
}

// EngineAnswer says whether an engine answered, and with which knowledge.
type EngineAnswer struct {
	Engine       string    `json:"engine"`
	Version      string    `json:"version,omitempty"`
	Database     string    `json:"database,omitempty"` // version of signatures or rules
	DatabaseTime time.Time `json:"database_time,omitzero"`
	Answered     bool      `json:"answered"`
	Error        string    `json:"error,omitempty"`
	DurationMS   int64     `json:"duration_ms"`
	Cached       bool      `json:"cached,omitempty"`
}

// Part is one piece of a mail as the sidecar took it out.
type Part struct {
	Path        string `json:"path"`
	Name        string `json:"name,omitempty"`
	ContentType string `json:"content_type,omitempty"` // as the mail says
	TrueType    string `json:"true_type,omitempty"`    // as the bytes say
	SHA256      string `json:"sha256,omitempty"`
	Size        int64  `json:"size"`
	Depth       int    `json:"depth"`
	Disposition string `json:"disposition,omitempty"`
}

// Report is everything that the engines say of a mail.
type Report struct {
	Findings   []Finding      `json:"findings"`
	Engines    []EngineAnswer `json:"engines"`
	Parts      []Part         `json:"parts"`
	Subject    string         `json:"subject"`
	HeaderFrom string         `json:"header_from"`
	MessageID  string         `json:"message_id"`
	Date       string         `json:"date"`
	Limits     []string       `json:"limits,omitempty"` // limits that were hit
}

// Failed lists the engines that gave no answer.
func (r Report) Failed() []string {
	var names []string
	for _, e := range r.Engines {
		if !e.Answered {
			names = append(names, e.Engine)
		}
	}
	return names
}

// Policy is what one layer wants done: a workspace ("*"), one of its domains, or
// a group of recipients. For outbound mail domain and group are the sender's. A
// line that it leaves out is as the layer below has it. The policy of a
// [Recipient] has all layers in one.
type Policy struct {
	ID        uuid.UUID        `json:"id"`
	Workspace uuid.UUID        `json:"workspace_id"`
	Domain    string           `json:"domain"`            // "*" for a workspace's and for a group's
	Group     uuid.UUID        `json:"group_id,omitzero"` // zero: a workspace's or a domain's
	Direction Direction        `json:"direction"`
	Actions   map[Class]Action `json:"actions"`
	Auth      *AuthSettings    `json:"auth,omitempty"` // inbound only
	// Thresholds are the sums of signs from which a mail is of a class. What is
	// left out is as [DefaultThresholds] has it.
	Thresholds Thresholds `json:"thresholds,omitzero" required:"false"`
	// Weights replace the scores of signs, by symbol.
	Weights map[string]float64 `json:"weights,omitempty"`
	// EngineFailure is what is done with a mail that an engine gave no answer on,
	// by engine: defer or quarantine. [AnyEngine] is every other one. Left out: defer.
	EngineFailure map[string]Action `json:"engine_failure,omitempty"`
	// Sandbox says which files go to the sandbox, and what happens when it is late.
	Sandbox json.RawMessage `json:"sandbox,omitempty"`
	// DLPSets are the sets of DLP rules that count. nil: all that are enabled.
	DLPSets   []string  `json:"dlp_sets,omitzero" required:"false"`
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
	// Inherited says that the domain has none of its own: this is the workspace's.
	Inherited bool `json:"inherited,omitempty"`

	origins map[string]Origin // by line, of a policy made of layers
}

// Domain is a domain that we take mail for.
type Domain struct {
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id"`
	Name      string    `json:"name"`
	NextHop   string    `json:"next_hop"` // a route of package hop: host:port, or outbound mx:DOMAIN
	Source    string    `json:"source"`   // config or database
	Enabled   bool      `json:"enabled"`
	Version   int64     `json:"version"`
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// Recipient is one recipient with what is to be asked for its mail.
type Recipient struct {
	Address   string
	Direction Direction
	Domain    Domain // outbound: the recipient's, which is none of ours
	Policy    Policy
	// Ours is the domain of ours whose policy counts: the recipient's, or the
	// sender's of outbound mail. Groups are those of our side, the highest last.
	Ours   string
	Groups []uuid.UUID
}
