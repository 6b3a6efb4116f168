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
	const meaning = "Outbound mail that cannot be signed is answered 451; signatures whose key is not published fail everywhere. `mailward dkim` prints what belongs into the DNS."
	return Component{
		Name: "dkim", Title: "Signing keys", Group: "delivery", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result { return checkKeys(keys(ctx), now(), meaning) },
	}
}

func checkKeys(keys []Key, now time.Time, meaning string) Result {
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
		return Result{State: Down, Code: "no_key", Reason: "No signing key can be used now. " + meaning, Detail: strings.Join(bad, "; ")}
	}
	if len(bad) > 0 {
		return Result{State: Degraded, Code: code, Reason: "Something is wrong with the signing keys. " + meaning, Detail: strings.Join(bad, "; ")}
	}
	return Result{State: Up, Reason: fmt.Sprintf("%d keys sign; all of them are published.", active)}
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
	const meaning = "Mail that must be signed with a key there is answered 451; all other mail flows."
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
				return Result{State: NotAuthorised, Code: "refused", Detail: detail(err), Facts: facts, Reason: "OpenBao answers but does not take our credentials. " + meaning + " Check openbao.role_id and openbao.secret_id."}
			case s.Sealed:
				return Result{State: Down, Code: "sealed", Detail: detail(err), Facts: facts, Reason: "OpenBao is sealed. " + meaning + " Unseal it."}
			case err != nil:
				return Result{State: Down, Code: "unreachable", Detail: err.Error(), Facts: facts, Reason: "OpenBao does not answer. " + meaning}
			case s.Standby:
				return Result{State: Degraded, Code: "standby", Facts: facts, Reason: "This OpenBao is a standby: it passes questions on to the active one, which costs time. Point openbao.url at the active one."}
			}
			return Result{State: Up, Facts: facts, Reason: "OpenBao answers and takes our token."}
		},
	}
}

func detail(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
