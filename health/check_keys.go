package health

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Key is a key that mail is signed or sealed with.
type Key struct {
	Name      string // selector and domain
	Missing   bool   // it cannot even be asked for
	Active    bool
	Published string // yes, no, unknown
	Reason    string
	NotAfter  time.Time
}

// keyExpiresSoon is how long before its end a key is spoken of: time to publish
// the next one and to let caches forget.
const keyExpiresSoon = 7 * 24 * time.Hour

// DKIM checks the keys that sign.
func DKIM(keys func(context.Context) []Key, now func() time.Time) Component {
	meaning := say("m.dkim")
	return Component{
		Name: "dkim", Title: "Signing keys", Group: "delivery", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result { return checkKeys(keys(ctx), now(), meaning) },
	}
}

func checkKeys(keys []Key, now time.Time, meaning Text) Result {
	var bad []string
	code, active := "", 0
	note := func(c, format string, a ...any) {
		if code == "" {
			code = c
		}
		bad = append(bad, fmt.Sprintf(format, a...))
	}
	for _, k := range keys {
		switch {
		case k.Missing:
			note("unknown", "%s: %s", k.Name, k.Reason)
		case !k.Active:
		case k.Published != "yes":
			note("not_published", "%s signs and is not known as published: %s", k.Name, k.Reason)
		case !k.NotAfter.IsZero() && k.NotAfter.Sub(now) < keyExpiresSoon:
			note("expires", "%s signs and ends on %s", k.Name, k.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
		}
		if k.Active {
			active++
		}
	}
	if active == 0 {
		return Result{State: Down, Code: "no_key", Reason: say("dkim.no_key").with(meaning), Detail: strings.Join(bad, "; ")}
	}
	if len(bad) > 0 {
		return Result{State: Degraded, Code: code, Reason: say("dkim.wrong").with(meaning), Detail: strings.Join(bad, "; ")}
	}
	return Result{State: Up, Reason: say("dkim.ok", num(active))}
}

// BaoStatus is how OpenBao is.
type BaoStatus struct {
	Version         string
	Sealed, Standby bool
	Denied          bool // it does not take our credentials
	TokenExpires    time.Time
}

// OpenBao checks the server that keeps keys.
func OpenBao(ask func(context.Context) (BaoStatus, error)) Component {
	meaning := say("m.openbao")
	return Component{
		Name: "openbao", Title: "OpenBao", Group: "stores", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			s, err := ask(ctx)
			facts := map[string]string{"version": s.Version}
			if !s.TokenExpires.IsZero() {
				facts["token_expires"] = s.TokenExpires.UTC().Format(time.RFC3339)
			}
			switch {
			case s.Denied:
				return Result{State: NotAuthorised, Code: "refused", Detail: detail(err), Facts: facts, Reason: say("openbao.refused").with(meaning).and("openbao.refused.do")}
			case s.Sealed:
				return Result{State: Down, Code: "sealed", Detail: detail(err), Facts: facts, Reason: say("openbao.sealed").with(meaning).and("openbao.sealed.do")}
			case err != nil:
				return Result{State: Down, Code: "unreachable", Detail: err.Error(), Facts: facts, Reason: say("answers_not", plain("OpenBao")).with(meaning)}
			case s.Standby:
				return Result{State: Degraded, Code: "standby", Facts: facts, Reason: say("openbao.standby")}
			}
			return Result{State: Up, Facts: facts, Reason: say("openbao.ok")}
		},
	}
}

func detail(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
