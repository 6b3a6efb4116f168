package seal

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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

// TestBundle_PasskeysAsTheyWereMade: the event of a passkey's making says which key it
// has. One that has signed nothing yet can get no other.
func TestBundle_PasskeysAsTheyWereMade(t *testing.T) {
	t.Parallel()
	for key, problem := range map[string]string{"the true one": "", "one of the server": "is signed by another key than the passkey"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			user := uuid.Must(uuid.NewV7())
			err := r.db.Act(context.Background(), pg.Operator("root"), func(ctx context.Context, tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO user_account (id, email) VALUES ($1, 'erika@ours.example')", user); err != nil {
					return err
				}
				record, err := json.Marshal(map[string]any{"id": []byte("one"), "publicKey": []byte("the true one")}) // as package identity keeps it
				if err != nil {
					return err
				}
				_, err = tx.Exec(ctx, "INSERT INTO passkey (id, user_id, credential_id, record, name) VALUES ($1, $2, $3, $4, 'key')", uuid.Must(uuid.NewV7()), user, []byte("one"), record)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			signed := audit.WithAttestation(context.Background(), &audit.Attestation{Act: "x", CredentialID: []byte("one"), PublicKey: []byte(key), AuthenticatorData: []byte("a"), ClientData: []byte("c"), Signature: []byte("s")})
			if err := r.Audit.Record(signed, audit.Event{Action: audit.ReleaseExecute, Actor: pg.Actor{Type: pg.ActorUser, UserID: user, AuthMethod: "passkey"}}); err != nil {
				t.Fatal(err)
			}
			r.seal()
			rep := r.verify(r.bundle(Part{}), proof.Options{Signature: func(map[string]any, string) error { return nil }})
			if !strings.Contains(rep.Problem, problem) || (rep.Problem == "") != (problem == "") {
				t.Errorf("%q, want %q", rep.Problem, problem)
			}
		})
	}
}
