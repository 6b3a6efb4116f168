package queue

import (
	"fmt"
	"strings"
	"time"
)

// subjects are in English and German, as all that a person reads of a report.
var subjects = map[action]string{
	actionFailed:  "Undelivered mail / Nicht zustellbare E-Mail",
	actionDelayed: "Delayed mail, still being tried / Verzögerte E-Mail, wird weiter versucht",
	actionRelayed: "Mail passed on / E-Mail weitergegeben",
}

// phrases of one language.
type phrases struct {
	intro, outro map[action]string
	said         string // before the words of a mail server
	silent       string // it gave no answer
	cannot       string // the mail is not fit for it
	gaveUp       string
	taken        string // out of the queue, by a person
	until        string
}

var english = phrases{
	intro: map[action]string{
		actionFailed:  "This is the mail system at %s.\n\nYour mail could not be delivered to:",
		actionDelayed: "This is the mail system at %s.\n\nYour mail could not be delivered yet to:",
		actionRelayed: "This is the mail system at %s.\n\nYour mail was passed on to a mail server that sends no reports, for:",
	},
	outro: map[action]string{
		actionFailed:  "It will not be tried again. Your mail's headers, or the mail itself, are attached.",
		actionDelayed: "You need not do anything: it is tried again. You hear from us if it fails for good.",
		actionRelayed: "You asked to be told. There will be no more reports on it.",
	},
	said:   "The recipient's mail server said: %s",
	silent: "The recipient's mail server could not be reached.",
	cannot: "The mail cannot be passed on in this form.",
	gaveUp: "It was tried for as long as we try.",
	taken:  "Those who run this mail system have ended the delivery.",
	until:  "It is tried until %s.",
}

var german = phrases{
	intro: map[action]string{
		actionFailed:  "Dies ist das Mailsystem von %s.\n\nIhre E-Mail konnte nicht zugestellt werden an:",
		actionDelayed: "Dies ist das Mailsystem von %s.\n\nIhre E-Mail konnte noch nicht zugestellt werden an:",
		actionRelayed: "Dies ist das Mailsystem von %s.\n\nIhre E-Mail wurde an einen Mailserver weitergegeben, der keine Berichte schickt, für:",
	},
	outro: map[action]string{
		actionFailed:  "Es wird nicht weiter versucht. Die Kopfzeilen Ihrer E-Mail oder die E-Mail selbst sind angehängt.",
		actionDelayed: "Sie müssen nichts tun: Es wird weiter versucht. Wenn es endgültig scheitert, hören Sie von uns.",
		actionRelayed: "Sie wollten benachrichtigt werden. Weitere Berichte gibt es dazu nicht.",
	},
	said:   "Der Mailserver des Empfängers sagte: %s",
	silent: "Der Mailserver des Empfängers war nicht erreichbar.",
	cannot: "Die E-Mail kann in dieser Form nicht weitergegeben werden.",
	gaveUp: "Es wurde so lange versucht, wie wir es versuchen.",
	taken:  "Die Betreiber dieses Mailsystems haben die Zustellung beendet.",
	until:  "Es wird versucht bis %s.",
}

// words is the part that people read.
func (r report) words() string {
	return r.in(english) + "\n\n---------------------------------------------------------------\n\n" + r.in(german) + "\n\nMailward-ID: " + r.mailID.String() + "\n"
}

func (r report) in(p phrases) string {
	var b strings.Builder
	what := r.fates[0].action
	fmt.Fprintf(&b, p.intro[what]+"\n", r.hostname)
	for _, f := range r.fates {
		// The text part is UTF-8 in any report.
		fmt.Fprintf(&b, "\n  <%s>\n", report{utf8: true}.clean(f.rcpt.Address, 320))
		switch {
		case what == actionRelayed:
		case f.taken:
			fmt.Fprintf(&b, "    %s\n", p.taken)
		case f.reply.Code != 0:
			fmt.Fprintf(&b, "    "+p.said+"\n", f.said())
		case f.gaveUp || what == actionDelayed:
			fmt.Fprintf(&b, "    %s\n", p.silent)
		default:
			fmt.Fprintf(&b, "    %s\n", p.cannot)
		}
		if f.gaveUp {
			fmt.Fprintf(&b, "    %s\n", p.gaveUp)
		}
		if what == actionDelayed && !f.until.IsZero() {
			fmt.Fprintf(&b, "    "+p.until+"\n", f.until.UTC().Format(time.DateTime+" UTC"))
		}
	}
	return b.String() + "\n" + p.outro[what]
}
