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
	meaning := say("m.dns")
	return Component{
		Name: "dns", Title: "DNS resolver", Group: "platform", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result { return judgeDNS(ask(ctx), meaning) },
	}
}

func judgeDNS(list []Resolver, meaning Text) Result {
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
		r.State, r.Code, r.Reason = Down, "unreachable", say("dns.silent").with(meaning)
	case len(silent) > 0:
		r.State, r.Code = Degraded, "some_silent"
		r.Reason = say("dns.some_silent", several(silent, 3))
	case best > slowResolver:
		r.State, r.Code = Degraded, "slow"
		r.Reason = say("dns.slow", span(best))
	default:
		r.Reason = say("dns.ok")
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
	meaning := say("m.dnsbl")
	return Component{
		Name: "dnsbl:" + zone, Title: "DNSBL " + zone, Group: "integrations", Effect: Weakens, Meaning: meaning, Every: time.Minute,
		Check: func(ctx context.Context) Result { return judgeList(try(ctx), meaning) },
	}
}

func judgeList(l List, meaning Text) Result {
	name := plain(l.Zone)
	switch {
	case l.Problem != "" && l.TimedOut:
		return Result{State: Down, Code: "timeout", Detail: l.Problem, Reason: say("dnsbl.late", name).with(meaning)}
	case l.Problem != "":
		return Result{State: Down, Code: "unreachable", Detail: l.Problem, Reason: say("dnsbl.silent", name).with(meaning)}
	case l.Trouble != "":
		return Result{State: NotAuthorised, Code: "unavailable", Detail: l.Trouble + ": " + l.Meaning, Reason: say("dnsbl.trouble", name, plain(l.Trouble), noun(l.Meaning)).with(meaning)}
	case l.World:
		return Result{State: Down, Code: "lists_all", Reason: say("dnsbl.world", name).with(meaning)}
	case !l.Listed:
		return Result{State: Down, Code: "no_test_entry", Reason: say("dnsbl.no_test", name).with(meaning)}
	}
	return Result{State: Up, Reason: say("dnsbl.ok", name)}
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
	meaning := say("m.evidence")
	return Component{
		Name: "evidence_store", Title: "Store of evidence", Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 30 * time.Second,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			v, err := ask(ctx)
			return timed(judgeVault(v, err, meaning), noun("evidence.store"), meaning, began)
		},
	}
}

func judgeVault(v Vault, err error, meaning Text) Result {
	switch {
	case v.Denied:
		return Result{State: NotAuthorised, Code: "refused", Detail: detail(err), Reason: say("evidence.refused").with(meaning).and("evidence.refused.do")}
	case v.NoLock:
		return Result{State: Down, Code: "no_lock", Detail: detail(err), Reason: say("evidence.no_lock").with(meaning).and("evidence.no_lock.do")}
	case err != nil && v.Bucket == "":
		return Result{State: Down, Code: "unwritable", Detail: err.Error(), Reason: say("evidence.unwritable").with(meaning).and("evidence.unwritable.do")}
	case err != nil:
		return failed(noun("evidence.bucket"), err, meaning)
	case v.Bucket == "":
		return Result{State: Up, Code: "folder", Reason: say("evidence.folder")}
	}
	return Result{State: Up, Reason: say("evidence.ok"), Facts: map[string]string{"bucket": v.Bucket}}
}

// Stamped is what a time stamp authority gave us.
type Stamped struct {
	Offset   time.Duration // its time against ours
	Trusted  bool
	NotAfter time.Time // of its certificate
}

// TSA checks a time stamp authority with a stamp.
func TSA(name string, stamp func(context.Context) (Stamped, error), now func() time.Time) Component {
	meaning := say("m.tsa")
	return Component{
		Name: "tsa", Title: "Time stamp authority", Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 15 * time.Minute,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			st, err := stamp(ctx)
			r := timed(judgeStamp(st, err, now(), meaning), noun("tsa"), meaning, began)
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

func judgeStamp(st Stamped, err error, now time.Time, meaning Text) Result {
	if errors.Is(err, ErrWrongBody) {
		return Result{State: Down, Code: "wrong_body", Detail: harmless(err), Reason: say("tsa.wrong").with(meaning)}
	}
	if err != nil {
		return failed(noun("tsa"), err, meaning)
	}
	switch off := st.Offset.Abs(); {
	case !st.Trusted:
		return Result{State: Degraded, Code: "untrusted", Reason: say("tsa.untrusted")}
	case !st.NotAfter.IsZero() && st.NotAfter.Sub(now) < tlsSoon:
		return Result{State: Degraded, Code: "tls_expires", Reason: say("tsa.tls_expires", day(st.NotAfter))}
	case off > time.Minute:
		return Result{State: Degraded, Code: "offset", Reason: say("tsa.offset", span(off))}
	}
	return Result{State: Up, Reason: say("tsa.ok")}
}

// timed adds the time that an answer took, and speaks of one that took long.
func timed(r Result, title string, meaning Text, began time.Time) Result {
	if r.Latency = time.Since(began); r.State == Up && r.Latency > slowService {
		r.State, r.Code, r.Reason = Degraded, "slow", say("slow", title, span(r.Latency)).with(meaning)
	}
	return r
}

// Provider checks a provider of single sign-on: its description and its keys.
func Provider(name, title string, ask func(context.Context) (keys int, err error)) Component {
	meaning, who := say("m.oidc"), plain(title)
	return Component{
		Name: "oidc:" + name, Title: "Sign-in through " + title, Group: "integrations", Effect: Weakens, Meaning: meaning, Every: 30 * time.Second,
		Check: func(ctx context.Context) Result {
			began := time.Now()
			keys, err := ask(ctx)
			switch {
			case errors.Is(err, ErrWrongBody):
				return Result{State: Down, Code: "wrong_body", Detail: harmless(err), Reason: say("oidc.wrong", who).with(meaning)}
			case err != nil:
				return failed(who, err, meaning)
			case keys == 0:
				return Result{State: Down, Code: "no_key", Reason: say("oidc.no_key", who).with(meaning)}
			}
			return timed(Result{State: Up, Reason: say("oidc.ok", who), Facts: map[string]string{"keys": fmt.Sprint(keys)}}, who, meaning, began)
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
		Meaning: say("m.channels"),
		Check: func(ctx context.Context) Result {
			list, err := look(ctx)
			if err != nil {
				return lookupFailed("channels", err)
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
		r.State, r.Code, r.Reason = NotConfigured, "none", say("channels.none")
	case len(bad) == on:
		r.State, r.Code, r.Reason = Down, "all_failing", say("channels.all")
	case len(bad) > 0:
		r.State, r.Code, r.Reason = Degraded, "failing", say("channels.some", several(bad, 3))
	default:
		r.Reason = say("channels.ok", num(on))
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
		Meaning: say("m.sandbox_queue"),
		Check: func(ctx context.Context) Result {
			w, err := look(ctx)
			if err != nil {
				return lookupFailed("sandbox_queue", err)
			}
			r := Result{State: Up, Reason: say("sandbox_queue.ok"), Facts: map[string]string{"waiting": fmt.Sprint(w.Waiting), "in_flight": fmt.Sprint(w.InFlight), "no_verdict_last_hour": fmt.Sprint(w.NoVerdict)}}
			if w.Oldest.IsZero() {
				return r
			}
			age := max(0, now().Sub(w.Oldest))
			r.Facts["queue_age_minutes"] = fmt.Sprint(int(age.Minutes()))
			r.Reason = say("sandbox_queue.waiting", num(w.Waiting), span(age))
			if age > sandboxLate {
				r.State, r.Code = Degraded, "late"
				r.Reason = r.Reason.and("sandbox_queue.late")
			}
			return r
		},
	}
}
