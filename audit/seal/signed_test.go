package seal

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/pg"
)

// TestBundle_SignaturesOfPeople: whoever checks a bundle also checks what people
// have signed in it, and hears how much stands on the server's word alone.
func TestBundle_SignaturesOfPeople(t *testing.T) {
	t.Parallel()
	erika := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), AuthMethod: "password"}
	signed := func(credential, key string) context.Context {
		return audit.WithAttestation(context.Background(), &audit.Attestation{Act: "x", CredentialID: []byte(credential), PublicKey: []byte(key), AuthenticatorData: []byte("a"), ClientData: []byte("c"), Signature: []byte("s")})
	}
	good := func(a map[string]any, person string) error {
		if _, err := audit.ReadAttestation(a); err != nil || person != erika.UserID.String() {
			return errors.Join(errors.New("another person"), err)
		}
		return nil
	}
	for name, c := range map[string]struct {
		second    context.Context
		signature func(map[string]any, string) error
		problem   string
		signed    int
	}{
		"two by one passkey":  {signed("one", "k1"), good, "", 2},
		"two by two passkeys": {signed("two", "k2"), good, "", 2},
		"nobody looks":        {signed("one", "k2"), nil, "", 0},
		"another key":         {signed("one", "k2"), good, "is signed by another key than the passkey", 1},
		"a bad signature":     {signed("one", "k1"), func(map[string]any, string) error { return errors.New("no") }, "is not signed by the passkey that it names: no", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for _, ctx := range []context.Context{signed("one", "k1"), c.second, context.Background()} {
				if err := r.Audit.Record(ctx, audit.Event{Action: audit.ReleaseExecute, Actor: erika}); err != nil {
					t.Fatal(err)
				}
			}
			r.act(1, audit.PageView) // nobody signs that
			r.seal()
			rep := r.verify(r.bundle(Part{}), proof.Options{Signature: c.signature})
			if !strings.Contains(rep.Problem, c.problem) || (rep.Problem == "") != (c.problem == "") || rep.Signed != c.signed {
				t.Errorf("%q, %d signed; want %q, %d", rep.Problem, rep.Signed, c.problem, c.signed)
			}
			if c.problem == "" && rep.Unsigned != 1 {
				t.Errorf("%d on the server's word, not 1", rep.Unsigned)
			}
			if c.problem != "" && rep.Event == "" {
				t.Error("the event is not named")
			}
		})
	}
}
