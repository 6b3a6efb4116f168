package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// What an entry does.
const (
	EntryAllow = "allow"
	EntryBlock = "block"
)

// What an entry can match.
const (
	MatchSender     = "sender"        // address of the envelope's sender or of the author
	MatchDomain     = "sender_domain" // its domain, and those below it
	MatchClient     = "client"        // IP address or network of the client
	MatchLink       = "link_domain"   // domain of a link in the mail, and those below it
	MatchAttachment = "attachment"    // SHA-256 of a part
	MatchSubject    = "subject"       // regular expression (RE2)
)

// Matches lists what an entry can match.
func Matches() []string {
	return []string{MatchSender, MatchDomain, MatchClient, MatchLink, MatchAttachment, MatchSubject}
}

// AllowMatches lists what an allow entry can match: what a stranger cannot write
// into a mail. A link or a subject would let everybody in who uses it.
func AllowMatches() []string {
	return []string{MatchSender, MatchDomain, MatchClient, MatchAttachment}
}

// Liftable are the classes that an allow entry can lift. Nothing lifts malware,
// nor what could not be looked into.
func Liftable() []Class { return []Class{Spam, Phishing, Suspicious, DLP, Encrypted, Broken} }

// BlockClasses are the classes that a block entry can give.
func BlockClasses() []Class { return []Class{Spam, Phishing, Malware, Suspicious} }

// Entry lets mail through or keeps it out, whatever the engines say: with an
// owner, a reason and, for what is let through, an end.
type Entry struct {
	ID        uuid.UUID `json:"id"`
	Workspace uuid.UUID `json:"workspace_id"`
	Domain    string    `json:"domain"` // of ours that it is for; "*": all of the workspace
	Group     uuid.UUID `json:"group_id,omitzero"`
	Direction Direction `json:"direction"`
	Kind      string    `json:"kind" enum:"allow,block"`
	Match     string    `json:"match" enum:"sender,sender_domain,client,link_domain,attachment,subject"`
	Value     string    `json:"value"`
	// Classes are what an allow lifts.
	Classes []Class `json:"classes" nullable:"false"`
	// Class and Action are what a block gives a mail, and asks for.
	Class     Class      `json:"class,omitempty"`
	Action    Action     `json:"action,omitempty"`
	Owner     string     `json:"owner"` // who answers for it
	Reason    string     `json:"reason"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	CreatedBy string     `json:"created_by"`
	Version   int64      `json:"version"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	Hits      int64      `json:"hits"`
	LastHitAt *time.Time `json:"last_hit_at,omitempty"`

	prefix netip.Prefix   // of a client entry
	re     *regexp.Regexp // of a subject entry
}

const (
	// AllowFor is how long an allow entry lasts where nobody says anything else.
	AllowFor = 90 * 24 * time.Hour
	// maxAllow is how long one may last.
	maxAllow      = 366 * 24 * time.Hour
	maxEntries    = 10_000 // of a workspace
	maxEntryValue = 320
	maxPattern    = 200
	maxReason     = 500
	maxSubject    = 2000 // bytes of a subject that are looked at
)

// check brings an entry into the form in which it is kept and compared. now is
// for its end.
func (e *Entry) check(now time.Time) error {
	if e.Direction == "" {
		e.Direction = Inbound
	}
	e.Owner, e.Reason, e.Value = strings.TrimSpace(e.Owner), strings.TrimSpace(e.Reason), strings.TrimSpace(e.Value)
	switch {
	case e.Direction != Inbound && e.Direction != Outbound:
		return &InvalidError{"direction", fmt.Sprintf("must be inbound or outbound, is %q", e.Direction)}
	case utf8.RuneCountInString(e.Reason) < 3 || len(e.Reason) > maxReason:
		return &InvalidError{"reason", fmt.Sprintf("must have 3 to %d characters", maxReason)}
	case e.Owner == "" || len(e.Owner) > maxEntryValue:
		return &InvalidError{"owner", "must say who answers for the entry"}
	}
	switch e.Kind {
	case EntryAllow:
		if err := e.checkAllow(now); err != nil {
			return err
		}
	case EntryBlock:
		if err := e.checkBlock(now); err != nil {
			return err
		}
	default:
		return &InvalidError{"kind", fmt.Sprintf("must be allow or block, is %q", e.Kind)}
	}
	return e.compile()
}

func (e *Entry) checkAllow(now time.Time) error {
	e.Class, e.Action = "", ""
	if !slices.Contains(AllowMatches(), e.Match) {
		return &InvalidError{"match", fmt.Sprintf("of an allow entry must be one of %s: anybody can write the rest into a mail", strings.Join(AllowMatches(), ", "))}
	}
	if len(e.Classes) == 0 {
		return &InvalidError{"classes", "must name at least one class that the entry lifts"}
	}
	for _, c := range e.Classes {
		if !slices.Contains(Liftable(), c) {
			return &InvalidError{"classes", fmt.Sprintf("has %q, which no entry can lift", c)}
		}
	}
	if e.ExpiresAt == nil {
		end := now.Add(AllowFor).UTC().Truncate(time.Second)
		e.ExpiresAt = &end
	}
	if !e.ExpiresAt.After(now) || e.ExpiresAt.Sub(now) > maxAllow {
		return &InvalidError{"expires_at", "of an allow entry must lie ahead, by a year at most"}
	}
	return nil
}

func (e *Entry) checkBlock(now time.Time) error {
	e.Classes = []Class{}
	if e.Class == "" {
		e.Class = Spam
	}
	if e.Action == "" {
		e.Action = Quarantine
	}
	switch {
	case !slices.Contains(Matches(), e.Match):
		return &InvalidError{"match", fmt.Sprintf("must be one of %s", strings.Join(Matches(), ", "))}
	case !slices.Contains(BlockClasses(), e.Class):
		return &InvalidError{"class", fmt.Sprintf("of a block entry must be spam, phishing, malware or suspicious, is %q", e.Class)}
	case e.Action != Quarantine && e.Action != Reject:
		return &InvalidError{"action", fmt.Sprintf("of a block entry must be quarantine or reject, is %q", e.Action)}
	case e.ExpiresAt != nil && !e.ExpiresAt.After(now):
		return &InvalidError{"expires_at", "must lie ahead"}
	}
	return nil
}

// compile brings the value into the form in which it is compared.
func (e *Entry) compile() (err error) {
	if e.Value == "" || len(e.Value) > maxEntryValue || !utf8.ValidString(e.Value) || strings.ContainsAny(e.Value, "\x00\r\n") {
		return &InvalidError{"value", fmt.Sprintf("must have 1 to %d characters", maxEntryValue)}
	}
	switch e.Match {
	case MatchSender:
		local, domain, ok := cutAddress(e.Value)
		if !ok {
			return &InvalidError{"value", fmt.Sprintf("%q is not an address", e.Value)}
		}
		e.Value = local + "@" + domain
	case MatchDomain, MatchLink:
		if e.Value, err = NormaliseDomain(strings.TrimPrefix(e.Value, "@")); err != nil {
			return &InvalidError{"value", "is not a domain name"}
		}
	case MatchClient:
		if e.prefix, err = parsePrefix(e.Value); err != nil {
			return &InvalidError{"value", fmt.Sprintf("%q is neither an IP address nor a network", e.Value)}
		}
		if e.Kind == EntryAllow && e.prefix.Bits() < map[bool]int{true: 16, false: 32}[e.prefix.Addr().Is4()] {
			return &InvalidError{"value", "is too large a network to be allowed: /16 at most, /32 for IPv6"}
		}
		e.Value = e.prefix.String()
	case MatchAttachment:
		if e.Value = strings.ToLower(e.Value); len(e.Value) != 64 || strings.Trim(e.Value, "0123456789abcdef") != "" {
			return &InvalidError{"value", "must be the SHA-256 of a file, in 64 hexadecimal digits"}
		}
	case MatchSubject:
		if len(e.Value) > maxPattern {
			return &InvalidError{"value", fmt.Sprintf("of a subject must have %d characters at most", maxPattern)}
		}
		if e.re, err = regexp.Compile(e.Value); err != nil {
			return &InvalidError{"value", "is not a regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
		}
		if e.re.MatchString("") {
			return &InvalidError{"value", "matches every subject"}
		}
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is no network: %w", s, err)
	}
	return p.Masked(), nil
}

// covers says whether an entry is for a recipient.
func (e *Entry) covers(r Recipient) bool {
	dir := r.Direction
	if dir == "" {
		dir = Inbound
	}
	return e.Direction == dir && (e.Domain == "*" || e.Domain == r.ours()) && (e.Group == uuid.Nil || slices.Contains(r.Groups, e.Group))
}

// ours is the domain of ours whose policy counts for a recipient.
func (r Recipient) ours() string {
	if r.Ours == "" {
		return r.Domain.Name
	}
	return r.Ours
}

// String names an entry in a sentence.
func (e *Entry) String() string {
	return fmt.Sprintf("the %s entry for %s %s (%s; %s answers for it)", e.Kind, matchWords[e.Match], e.Value, e.Reason, e.Owner)
}

// matchWords are what entries match, in a sentence.
var matchWords = map[string]string{MatchSender: "the sender", MatchDomain: "the sender's domain", MatchClient: "the client", MatchLink: "links to",
	MatchAttachment: "the attachment", MatchSubject: "the subject"}
