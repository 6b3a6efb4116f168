package limit

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Kinds of refusals, as they are counted and logged.
const (
	KindBanned         = "banned"
	KindConnections    = "connections"
	KindConnectionRate = "connection_rate"
	KindMailRate       = "mail_rate"
	KindRecipientRate  = "recipient_rate"
	KindByteRate       = "byte_rate"
	KindSenderRate     = "sender_rate"
	KindBadCommands    = "bad_commands"
	KindDNSBL          = "dnsbl"
	KindGreylist       = "greylist"
	KindRecipient      = "recipient"
)

// Refusal is the answer for the SMTP client, and an error. Its text holds
// nothing of our insides.
type Refusal struct {
	Code     int
	Enhanced [3]int
	Text     string
	Kind     string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Temporary says whether the client is to come again.
func (r *Refusal) Temporary() bool { return r.Code < 500 }

// refuse makes the refusal of a kind: every code of this package but those with
// a text of their own. A rate is always temporary: the sender keeps the mail.
func refuse(kind string) *Refusal {
	r := Refusal{Code: 450, Enhanced: [3]int{4, 7, 1}, Kind: kind}
	switch kind {
	case KindBanned:
		r.Code, r.Enhanced, r.Text = 421, [3]int{4, 7, 0}, "Too many bad commands from your address, try again later"
	case KindConnections:
		r.Code, r.Enhanced, r.Text = 421, [3]int{4, 7, 0}, "Too many connections from your address at a time"
	case KindConnectionRate:
		r.Code, r.Enhanced, r.Text = 421, [3]int{4, 7, 0}, "Your address connects too often, try again later"
	case KindBadCommands:
		r.Code, r.Enhanced, r.Text = 421, [3]int{4, 7, 0}, "Too many bad commands"
	case KindMailRate:
		r.Text = "Too many mails from your address, try again later"
	case KindSenderRate:
		r.Text = "Too many mails from this sender, try again later"
	case KindRecipientRate:
		// RFC 5321 §4.5.3.1.10: 452 lets the client send to those taken so far.
		r.Code, r.Text = 452, "Too many recipients, try the rest later"
	case KindByteRate:
		r.Code, r.Text = 452, "Too much mail from your address, try again later"
	case KindRecipient:
		r.Code, r.Enhanced, r.Text = 550, [3]int{5, 1, 1}, "Recipient unknown"
	}
	return &r
}

func greylisted(wait time.Duration) *Refusal {
	return &Refusal{Code: 450, Enhanced: [3]int{4, 7, 1}, Kind: KindGreylist,
		Text: fmt.Sprintf("Greylisted, try again in %d seconds", max(1, int(math.Ceil(wait.Seconds()))))}
}

// maxReason keeps the reply line under 512 octets (RFC 5321 §4.5.3.1.5).
const maxReason = 200

// blocked names the list, so that the client's admin knows whom to ask, and
// what the list says about it, where that is plain text (RFC 5782 §2.1).
func blocked(zone, reason string) *Refusal {
	r := &Refusal{Code: 550, Enhanced: [3]int{5, 7, 1}, Kind: KindDNSBL, Text: "Your address is listed by " + zone}
	if reason = strings.TrimSpace(reason); reason != "" && len(reason) <= maxReason && harmless(reason) {
		r.Text += ": " + reason
	}
	return r
}

// harmless is printable ASCII only: a DNS answer must not write into the dialog
// or into a log.
func harmless(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
