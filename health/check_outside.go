package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Resolver is one DNS server, asked just now.
type Resolver struct {
	Address string
	Latency time.Duration
	Err     error
}

// slowResolver is when each lookup of a mail is felt.
const slowResolver = 500 * time.Millisecond

// DNS checks the resolvers, past the cache.
func DNS(ask func(context.Context) []Resolver) Component {
	const meaning = "Mail from our own networks and to next hops by address flows. Who sent a mail cannot be found out (SPF, DKIM, DMARC), next hops by name cannot be reached, and DNSBLs are not heard. Check dns.server."
	return Component{
		Name: "dns", Title: "DNS resolver", Group: "platform", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result { return judgeDNS(ask(ctx), meaning) },
	}
}

func judgeDNS(list []Resolver, meaning string) Result {
	r := Result{State: Up, Facts: map[string]string{}}
	var silent []string
	var best time.Duration
	good := 0
	for _, s := range list {
		if s.Err != nil {
			silent = append(silent, s.Address)
			r.Detail += s.Address + ": " + s.Err.Error() + "; "
			r.Facts[s.Address] = "no answer"
			continue
		}
		r.Facts[s.Address] = seconds(s.Latency)
		if good++; good == 1 || s.Latency < best {
			best = s.Latency
		}
	}
	r.Latency, r.Detail = best, strings.TrimSuffix(r.Detail, "; ")
	switch {
	case good == 0:
		r.State, r.Code, r.Reason = Down, "unreachable", "No DNS resolver answers. "+meaning
	case len(silent) > 0:
		r.State, r.Code = Degraded, "some_silent"
		r.Reason = "Not all DNS resolvers answer: " + joinLimited(silent, 3) + " is silent. Mail flows; lookups may take a second longer."
	case best > slowResolver:
		r.State, r.Code = Degraded, "slow"
		r.Reason = fmt.Sprintf("The DNS resolver needs %s. Mail flows, more slowly.", seconds(best))
	default:
		r.Reason = "The DNS resolver answers."
	}
	return r
}

// List is a DNSBL, tried with its test entries (RFC 5782 §5).
type List struct {
	Zone     string
	Listed   bool   // 127.0.0.2, which every list names
	World    bool   // 127.0.0.1, which none may name
	Trouble  string // the code with which it says that it is not available to us
	Meaning  string // of that code
	Problem  string // no answer
	TimedOut bool
}

// DNSBL checks a list of clients.
func DNSBL(zone string, try func(context.Context) List) Component {
	const meaning = "Mail flows; clients that this list knows are not refused for it."
	return Component{
		Name: "dnsbl:" + zone, Title: "DNSBL " + zone, Group: "integrations", Effect: Weakens, Meaning: meaning, Every: time.Minute,
		Check: func(ctx context.Context) Result { return judgeList(try(ctx), meaning) },
	}
}

func judgeList(l List, meaning string) Result {
	name := "The list " + l.Zone
	switch {
	case l.Problem != "" && l.TimedOut:
		return Result{State: Down, Code: "timeout", Detail: l.Problem, Reason: name + " does not answer in time. " + meaning}
	case l.Problem != "":
		return Result{State: Down, Code: "unreachable", Detail: l.Problem, Reason: name + " does not answer. " + meaning}
	case l.Trouble != "":
		return Result{State: NotAuthorised, Code: "unavailable", Detail: l.Trouble + ": " + l.Meaning, Reason: fmt.Sprintf("%s answers %s: %s. %s", name, l.Trouble, l.Meaning, meaning)}
	case l.World:
		return Result{State: Down, Code: "lists_all", Reason: name + " names every address, also 127.0.0.1, and is not used until that ends. " + meaning}
	case !l.Listed:
		return Result{State: Down, Code: "no_test_entry", Reason: name + " does not name 127.0.0.2, which every list does: its name is wrong, or we may not ask it. " + meaning}
	}
	return Result{State: Up, Reason: name + " names its test entry, and not the address that none may name."}
}

// Vault is where evidence goes.
type Vault struct {
	Bucket string // a bucket's name; empty: a folder
	Locked bool   // Object Lock is on
	Denied bool
	NoLock bool // it says that it has none
}

// EvidenceStore checks where forensic exports are put.
func EvidenceStore(ask func(context.Context) (Vault, error)) Component {
	const meaning = "Mail flows. Forensic exports wait and are tried again."
	return Component{
		Name: "evidence_store", Title: "Store of evidence", Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 30 * time.Second,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			v, err := ask(ctx)
			return timed(judgeVault(v, err, meaning), "The store of evidence", meaning, began)
		},
	}
}

func judgeVault(v Vault, err error, meaning string) Result {
	switch {
	case v.Denied:
		return Result{State: NotAuthorised, Code: "refused", Detail: detail(err), Reason: "The bucket of evidence answers but does not take our key. " + meaning + " Check evidence.access_key."}
	case v.NoLock:
		return Result{State: Down, Code: "no_lock", Detail: detail(err), Reason: "The bucket of evidence has no Object Lock, so nothing is put there. " + meaning + " Make a bucket with Object Lock: it cannot be switched on later."}
	case err != nil && v.Bucket == "":
		return Result{State: Down, Code: "unwritable", Detail: err.Error(), Reason: "The folder of evidence cannot be written to. " + meaning + " Check evidence.store."}
	case err != nil:
		return failed("The bucket of evidence", err, meaning)
	case v.Bucket == "":
		return Result{State: Up, Code: "folder", Reason: "The folder of evidence can be written to. It is not WORM: root on this machine can remove what is in it. Mail flows."}
	}
	return Result{State: Up, Reason: "The bucket of evidence answers, and Object Lock is on.", Facts: map[string]string{"bucket": v.Bucket}}
}

// Stamped is what a time stamp authority gave us.
type Stamped struct {
	Offset   time.Duration // its time against ours
	Trusted  bool
	NotAfter time.Time // of its certificate
}

// TSA checks a time stamp authority with a stamp.
func TSA(name string, stamp func(context.Context) (Stamped, error), now func() time.Time) Component {
	const meaning = "Mail flows. Forensic exports wait for their time stamp and are tried again."
	return Component{
		Name: "tsa", Title: "Time stamp authority", Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 15 * time.Minute,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			st, err := stamp(ctx)
			r := timed(judgeStamp(st, err, now(), meaning), "The time stamp authority", meaning, began)
			if r.Facts == nil {
				r.Facts = map[string]string{}
			}
			r.Facts["address"] = name
			return r
		},
	}
}

// clockOff is an offset at which two records cannot be put in order any more.
const clockOff = 2 * time.Second

func judgeStamp(st Stamped, err error, now time.Time, meaning string) Result {
	if errors.Is(err, ErrWrongBody) {
		return Result{State: Down, Code: "wrong_body", Detail: harmless(err), Reason: "The time stamp authority answers, and not with a time stamp that we take. " + meaning}
	}
	if err != nil {
		return failed("The time stamp authority", err, meaning)
	}
	switch off := st.Offset.Abs(); {
	case !st.Trusted:
		return Result{State: Degraded, Code: "untrusted", Reason: "The time stamp authority gives stamps, but they are not by a certificate that we are told to believe. Mail flows and exports are made; their stamps prove less. Set evidence.tsa.ca_file."}
	case !st.NotAfter.IsZero() && st.NotAfter.Sub(now) < tlsSoon:
		return Result{State: Degraded, Code: "tls_expires", Reason: "The certificate of the time stamp authority ends on " + st.NotAfter.UTC().Format(time.DateOnly) + ". Mail flows. Ask the authority."}
	case off > time.Minute:
		return Result{State: Degraded, Code: "offset", Reason: fmt.Sprintf("The time stamp authority's time is %s off ours. Mail flows. Check the clock of this machine.", seconds(off))}
	}
	return Result{State: Up, Reason: "The time stamp authority has just given a stamp that we believe."}
}

// timed adds the time that an answer took, and speaks of one that took long.
func timed(r Result, title, meaning string, began time.Time) Result {
	if r.Latency = time.Since(began); r.State == Up && r.Latency > slowService {
		r.State, r.Code, r.Reason = Degraded, "slow", fmt.Sprintf("%s needs %s to answer. %s", title, seconds(r.Latency), meaning)
	}
	return r
}

// Provider checks a provider of single sign-on: its description and its keys.
func Provider(name, title string, ask func(context.Context) (keys int, err error)) Component {
	const meaning = "Mail flows. People who sign in through it cannot; those who are signed in stay so."
	return Component{
		Name: "oidc:" + name, Title: "Sign-in through " + title, Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 30 * time.Second,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			keys, err := ask(ctx)
			switch {
			case errors.Is(err, ErrWrongBody):
				return Result{State: Down, Code: "wrong_body", Detail: harmless(err), Reason: title + " answers, and not with the description and keys of a provider that is ours. " + meaning}
			case err != nil:
				return failed(title, err, meaning)
			case keys == 0:
				return Result{State: Down, Code: "no_key", Reason: title + " has no key, so no sign-in can be believed. " + meaning}
			}
			return timed(Result{State: Up, Reason: title + " answers with its description and its keys.", Facts: map[string]string{"keys": fmt.Sprint(keys)}}, title, meaning, began)
		},
	}
}

// ErrWrongBody means that something answered that is not what it should be.
var ErrWrongBody = errors.New("health: not the answer that it should be")

// Told is how a channel of notifications fares.
type Told struct {
	Name      string
	Enabled   bool
	LastSent  time.Time
	LastError string
	Waiting   int
}

// Channels checks what became of the last notification of each channel.
func Channels(look func(context.Context) ([]Told, error), now func() time.Time) Component {
	return Component{
		Name: "channels", Title: "Notification channels", Group: "integrations", Effect: Weakens, Every: 5 * time.Second,
		Meaning: "Mail flows; alerts may not reach anybody. Look at PostgreSQL first.",
		Check: func(ctx context.Context) Result {
			list, err := look(ctx)
			if err != nil {
				return lookupFailed("The notification channels", err)
			}
			return judgeChannels(list, now())
		},
	}
}

func judgeChannels(list []Told, now time.Time) Result {
	r := Result{State: Up, Facts: map[string]string{}}
	var bad []string
	on := 0
	for _, c := range list {
		if !c.Enabled {
			continue
		}
		on++
		switch {
		case c.LastError != "":
			bad = append(bad, c.Name)
			r.Detail += c.Name + ": " + c.LastError + "; "
			r.Facts[c.Name] = "failed"
		case c.LastSent.IsZero():
			r.Facts[c.Name] = "nothing sent yet"
		default:
			r.Facts[c.Name] = "sent " + seconds(max(0, now.Sub(c.LastSent))) + " ago"
		}
	}
	r.Detail = strings.TrimSuffix(r.Detail, "; ")
	switch {
	case on == 0:
		r.State, r.Code, r.Reason = NotConfigured, "none", "There is no notification channel: alerts are seen on their page only. Mail flows."
	case len(bad) == on:
		r.State, r.Code, r.Reason = Down, "all_failing", "No notification channel works, so alerts reach nobody. Mail flows. Look under Alerts, Channels."
	case len(bad) > 0:
		r.State, r.Code, r.Reason = Degraded, "failing", "The last notification did not arrive on: "+joinLimited(bad, 3)+". Mail flows. Look under Alerts, Channels."
	default:
		r.Reason = fmt.Sprintf("The last notification went out on all %d channels that had one.", on)
	}
	return r
}

// Waits is the mail that waits for the sandbox.
type Waits struct {
	Waiting, InFlight, NoVerdict int
	Oldest                       time.Time // zero: nothing waits
}

// SandboxQueue checks the mail that waits for the sandbox, whether that answers
// or not.
func SandboxQueue(look func(context.Context) (Waits, error), now func() time.Time) Component {
	return Component{
		Name: "sandbox_queue", Title: "Sandbox queue", Group: "engines", Effect: Weakens,
		Meaning: "Mail that waits for the sandbox stays held. All other mail flows.",
		Check: func(ctx context.Context) Result {
			w, err := look(ctx)
			if err != nil {
				return lookupFailed("The queue of the sandbox", err)
			}
			r := Result{State: Up, Reason: "No mail waits for the sandbox.", Facts: map[string]string{"waiting": fmt.Sprint(w.Waiting), "in_flight": fmt.Sprint(w.InFlight), "no_verdict_last_hour": fmt.Sprint(w.NoVerdict)}}
			if w.Oldest.IsZero() {
				return r
			}
			age := max(0, now().Sub(w.Oldest))
			r.Facts["queue_age_minutes"] = fmt.Sprint(int(age.Minutes()))
			r.Reason = fmt.Sprintf("%d mails wait for the sandbox, the oldest for %s.", w.Waiting, seconds(age))
			if age > sandboxLate {
				r.State, r.Code = Degraded, "late"
				r.Reason += " They stay held; at their deadline the policy decides without a verdict."
			}
			return r
		},
	}
}
