package proof

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
)

// signature looks at what an event says of who signed it. A signature has to fit the
// act and the person of the event, and a passkey has one key in all of a bundle:
// whoever puts another key under its name is seen where the true one was used too.
// How a passkey signs is known to whoever brings [Options.Signature].
func (v *verifier) signature(e BundleEvent, in map[string]any, bad func(string, ...any) error) error {
	a, _ := in["attestation"].(map[string]any)
	if a["by"] == "server" {
		v.rep.Unsigned++
	}
	if a["by"] != "passkey" || v.opt.Signature == nil {
		return nil
	}
	if _, kept := a["act"].(string); !kept {
		// The text that was signed can name people, and is a value of its own then.
		act, there := e.value("attestation.act")
		if !there {
			v.rep.SignedErased++
			return nil
		}
		a = maps.Clone(a)
		a["act"] = act
	}
	actor, _ := in["actor"].(map[string]any)
	person, _ := actor["id"].(string)
	if err := v.opt.Signature(a, person); err != nil {
		return bad("is not signed by the passkey that it names: %v", err)
	}
	id, _ := a["credential_id"].(string)
	key, _ := a["public_key"].(string)
	if before, known := v.passkeys[id]; known && before != key {
		return bad("is signed by another key than the passkey %s has elsewhere", id)
	}
	v.passkeys[id] = key
	v.rep.Signed++
	return nil
}

// passkey notes the key that a passkey was made with. Events from before migration 0092
// do not have it: then the first signature says which key it is.
func (v *verifier) passkey(in map[string]any, bad func(string, ...any) error) error {
	if in["action"] != "passkey.create" {
		return nil
	}
	change, _ := in["change"].(map[string]any)
	after, _ := change["after"].(map[string]any)
	credential, _ := after["credential_id"].(string)
	public, _ := after["public_key"].(string)
	rawID, err := hex.DecodeString(strings.TrimPrefix(credential, `\x`)) // as PostgreSQL writes it
	if err != nil || len(rawID) == 0 {
		return nil
	}
	rawKey, err := base64.StdEncoding.DecodeString(public)
	if err != nil || len(rawKey) == 0 {
		return nil
	}
	id, key := base64.RawURLEncoding.EncodeToString(rawID), base64.RawURLEncoding.EncodeToString(rawKey)
	if before, known := v.passkeys[id]; known && before != key {
		return bad("makes the passkey %s with another key than it has elsewhere", id)
	}
	v.passkeys[id] = key
	return nil
}

// value is a personal value of the event, where it is in the bundle.
func (e BundleEvent) value(path string) (string, bool) {
	for _, p := range e.PII {
		if p.Path == path {
			return p.Value, true
		}
	}
	return "", false
}
