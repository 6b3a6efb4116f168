package seal

import (
	"bytes"
	"context"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mailward/audit/proof"
	"mailward/internal/testenv"
)

// TestToken_AfterItsSignerExpired checks a token with openssl, as an auditor would:
// when its signer has expired it passes with -attime alone. We look at the time of
// the stamp, and take it before and after.
func TestToken_AfterItsSignerExpired(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "openssl")
	end := time.Now().Truncate(time.Second).Add(3 * time.Second)
	s, ctx, note := newTSAUntil(t, end), context.Background(), "a note\n"
	token, _, err := TSA{URL: s.URL, Client: HTTPClient()}.Send(ctx, Signed{Note: note})
	if err != nil {
		t.Fatal(err)
	}
	stamped := time.Now()
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	args := []string{"ts", "-verify", "-data", file("note", []byte(note)), "-in", file("token", token), "-token_in",
		"-CAfile", file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw}))}
	check := func(when string, want bool, more ...string) {
		t.Helper()
		out, err := exec.CommandContext(ctx, "openssl", append(args, more...)...).CombinedOutput()
		if ok := err == nil && bytes.Contains(out, []byte("Verification: OK")); ok != want {
			t.Errorf("openssl %s %v: %v, want %v\n%s", when, more, ok, want, out)
		}
		if _, trusted, err := proof.CheckToken(token, note, s.roots); !trusted {
			t.Errorf("our own check %s: %v", when, err)
		}
	}
	atTime := []string{"-attime", strconv.FormatInt(stamped.Unix(), 10)}
	check("while the signer is good", true)
	check("while the signer is good", true, atTime...)
	time.Sleep(time.Until(end.Add(time.Second))) // the condition is the clock itself
	check("after the signer's end", false)
	check("after the signer's end", true, atTime...)
	if _, _, err := (TSA{URL: s.URL, Client: HTTPClient()}).Send(ctx, Signed{Note: note}); err == nil {
		t.Error("a stamp by an authority that has expired is taken")
	}
}
