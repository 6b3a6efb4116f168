package webui

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"mailward/audit"
	"mailward/identity"
	"mailward/internal/pg"
)

func hashesOf(t *testing.T, v any) (out []tlog.Hash) {
	t.Helper()
	list, _ := v.([]any)
	for _, x := range list {
		b, err := base64.StdEncoding.DecodeString(fmt.Sprint(x))
		must(t, err)
		out = append(out, tlog.Hash(b))
	}
	return out
}

// TestAPI_Proofs checks what the API gives with the Go checksum database's code
// alone, as a stranger would.
func TestAPI_Proofs(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx, token := context.Background(), s.token(identity.Auditor)
	if status, _, body := s.call(token, "GET", "/audit/checkpoint", ""); status != 409 {
		t.Errorf("before the first checkpoint: %d %s", status, body)
	}
	record := func() {
		for range 5 {
			must(t, s.audit.Record(ctx, audit.Event{Action: audit.Login, Actor: pg.System("x", "y")}))
		}
		for n := 1; n > 0; {
			var err error
			n, err = s.audit.Sequence(ctx)
			must(t, err)
		}
		_, err := s.seal.Seal(ctx)
		must(t, err)
	}
	record()
	_, first, _ := s.call(token, "GET", "/audit/checkpoint", "")
	record()
	status, m, body := s.call(token, "GET", "/audit/checkpoint", "")
	keys, _ := m["keys"].([]any)
	if status != 200 || len(keys) != 1 {
		t.Fatalf("%d %s", status, body)
	}
	key := keys[0].(map[string]any)
	if key["algorithm"] != "ed25519" {
		t.Errorf("algorithm %v", key["algorithm"])
	}
	v, err := note.NewVerifier(fmt.Sprint(key["vkey"]))
	must(t, err)
	n, err := note.Open([]byte(m["note"].(string)), note.VerifierList(v))
	must(t, err)
	lines := strings.Split(n.Text, "\n")
	root, err := tlog.ParseHash(lines[2])
	must(t, err)
	size := int64(m["size"].(float64))
	id := s.events(audit.Login)[0]["id"].(string)
	status, p, body := s.call(token, "GET", "/audit/proof?event="+id, "")
	if status != 200 || p["note"] != m["note"] || !strings.HasPrefix(p["text"].(string), "c2sp.org/tlog-proof@v1\nindex ") {
		t.Fatalf("%d %s", status, body)
	}
	leaf, err := hex.DecodeString(p["leaf_hash"].(string))
	must(t, err)
	must(t, tlog.CheckRecord(hashesOf(t, p["proof"]), size, root, int64(p["seq"].(float64)), tlog.Hash(leaf)))

	from := int64(first["size"].(float64))
	status, c, body := s.call(token, "GET", fmt.Sprintf("/audit/consistency?from=%d", from), "")
	if status != 200 || c["from_root"] != first["root"] {
		t.Fatalf("%d %s", status, body)
	}
	old, err := tlog.ParseHash(first["root"].(string))
	must(t, err)
	must(t, tlog.CheckTree(hashesOf(t, c["proof"]), size, root, from, old))
	for path, want := range map[string]int{
		"/audit/consistency?from=5&to=2":                          422,
		"/audit/consistency?from=1&to=99999":                      422,
		"/audit/proof?event=01938f0e-7c1a-7b52-9d5e-2f6b0c9f3a11": 404,
		"/audit/proof?event=x":                                    422,
		"/audit/anchors?cursor=x":                                 422,
	} {
		if status, _, body := s.call(token, "GET", path, ""); status != want {
			t.Errorf("GET %s: %d %s, want %d", path, status, body, want)
		}
	}
	// An auditor of one workspace sees no proof of what belongs to none.
	if status, _, _ := s.call(s.token(identity.Viewer), "GET", "/audit/proof?event="+id, ""); status != 403 && status != 404 {
		t.Errorf("a viewer gets %d", status)
	}
}
