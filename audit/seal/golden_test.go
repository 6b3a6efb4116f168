package seal

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/internal/pg"
)

// golden is where TestGolden writes what cmd/mailward's tests of verify read: a
// bundle of today must pass in every version to come.
var golden = flag.String("golden", "", "write a bundle and what belongs to it into this folder")

func TestGolden(t *testing.T) {
	if *golden == "" {
		t.Skip("this writes the bundle that cmd/mailward verifies, and checks nothing: run it with -golden FOLDER when the format changes")
	}
	r, ctx := newRig(t), context.Background()
	s := newTSA(t)
	r.Anchors = []Named{{TSA{URL: s.URL, Roots: s.roots, Client: HTTPClient()}, "stamp", time.Hour}}
	for _, who := range []string{"erika@ours.example", "bob@ours.example"} {
		if err := r.Audit.Record(ctx, audit.Event{Action: audit.Login, Actor: pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: who}}); err != nil {
			t.Fatal(err)
		}
	}
	r.act(0, "")
	early, err := r.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Audit.Erase(ctx, pg.Operator("x"), "erika@ours.example", "Art. 17 GDPR", "asked for"); err != nil {
		t.Fatal(err)
	}
	r.act(2, audit.Logout)
	r.seal()
	if err := r.AnchorDue(ctx); err != nil {
		t.Fatal(err)
	}
	keys, err := r.PublicKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := keys[0].VKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"bundle.zip.base64": []byte(base64.StdEncoding.EncodeToString(r.bundle(Part{Version: "golden"}))), "kept.note": []byte(early.Note), "key.txt": []byte(vkey + "\n"),
		"tsa-ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})} {
		if err := os.WriteFile(filepath.Join(*golden, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
