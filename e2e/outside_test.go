package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/testenv"
)

// outside is what a browser test reaches besides the pages, as a small web server
// of this process: it sends mail over SMTP, says what came to the next hop, and
// makes time pass for digests. Its address is the browser test's OUTSIDE_URL.
func outside(t *testing.T, s *server, hop *testenv.Hop) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(path string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			out, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			json.NewEncoder(w).Encode(out)
		})
	}
	answer("POST /send", func(r *http.Request) (any, error) {
		msg, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		c, err := dialSMTPErr(s.smtp)
		if err != nil {
			return nil, err
		}
		defer c.conn.Close()
		return c.mail(r.URL.Query().Get("from"), r.URL.Query()["to"], msg)
	})
	// Data goes out as base64: the bytes are what the tests are about.
	answer("GET /arrived", func(*http.Request) (any, error) { return hop.Messages(), nil })
	answer("POST /expired", func(r *http.Request) (any, error) {
		return s.expireLink(r.Context(), r.URL.Query().Get("link"))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// expireLink makes a link of a digest one whose time is over, and returns it as it
// would have been sent then, signed: its end is part of what is signed.
func (s *server) expireLink(ctx context.Context, link string) (string, error) {
	base, token, ok := strings.Cut(link, "/digest/")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if !ok || err != nil || len(raw) != 32 {
		return "", fmt.Errorf("%q is no link of a digest", link)
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "keys", "digest.key"))
	if err != nil {
		return "", err
	}
	db, err := s.dbAs("postgres")
	if err != nil {
		return "", err
	}
	defer db.Close(ctx)
	id, end := uuid.UUID(raw[:16]), time.Now().Add(-time.Minute).Truncate(time.Second)
	var item, recipient uuid.UUID
	if err := db.QueryRow(ctx, "UPDATE digest_link SET expires_at = $2 WHERE id = $1 RETURNING item_id, recipient_id", id, end).Scan(&item, &recipient); err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "digest link\n%s\n%s\n%s\n%d\n", id, item, recipient, end.Unix())
	return base + "/digest/" + base64.RawURLEncoding.EncodeToString(append(id[:], h.Sum(nil)[:16]...)), nil
}

// digestsAreDue makes the last digests of the default workspace ones of yesterday.
func (s *server) digestsAreDue() {
	s.t.Helper()
	_, err := s.db().Exec(context.Background(), `INSERT INTO digest_run (workspace_id, slot) SELECT workspace_id, now() - interval '1 day' FROM digest_setting
		ON CONFLICT (workspace_id) DO UPDATE SET slot = excluded.slot`)
	if err != nil {
		s.t.Fatal(err)
	}
}

// editConf replaces parts of the configuration: old, new, old, new...
func (s *server) editConf(oldnew ...string) {
	s.t.Helper()
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !bytes.Contains(conf, []byte(oldnew[i])) {
			s.t.Fatalf("the configuration lacks %q", oldnew[i])
		}
	}
	if err := os.WriteFile(s.conf, []byte(strings.NewReplacer(oldnew...).Replace(string(conf))), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// addPerson makes an account with the administrator's password.
func (s *server) addPerson(email, name string, roles ...string) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "mailward"), append([]string{"user", "create", "--email", email, "--name", name, "--password-stdin", "--config", s.conf}, roles...)...)
	cmd.Env, cmd.Stdin = append(os.Environ(), s.env...), strings.NewReader(adminPassword)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}
