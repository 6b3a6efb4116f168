package webui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailward/internal/testenv"
	"mailward/quarantine"
	"mailward/quarantine/preview"
)

// hostileHeld holds one mail for each hostile HTML.
type hostileHeld struct {
	*fakeHeld
	mails map[string]string // by the item's subject
}

func (h hostileHeld) Raw(_ context.Context, it quarantine.Item) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(h.mails[it.Subject])), nil
}

// hostileMails are the set of package preview as mails, and some more that hide
// their HTML in a charset. source is the HTML alone.
func hostileMails(t *testing.T) (mails, source map[string]string) {
	t.Helper()
	files, err := filepath.Glob("../quarantine/preview/testdata/hostile/*.html")
	if err != nil || len(files) < 10 {
		t.Fatalf("hostile mails: %v, %v", files, err)
	}
	mails, source = map[string]string{}, map[string]string{}
	add := func(name, charset, html string) {
		mails[name] = "Subject: " + name + "\r\nContent-Type: text/html; charset=" + charset + "\r\n\r\n" + html
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".html")
		source[name] = string(b)
		add(name, "utf-8", string(b))
	}
	script := `<p>seen</p><script>window.owned=1</script><img src="http://canary.example/CS" onerror="window.owned=1">`
	add("utf-7", "utf-7", "<p>seen</p>+ADw-script+AD4-window.owned=1+ADw-/script+AD4-+ADw-img src=http://canary.example/utf7+AD4-")
	add("utf-7-unsaid", "us-ascii", "<p>seen</p>+ADw-script+AD4-window.owned=1+ADw-/script+AD4-")
	add("utf-16", "utf-16le", strings.Join(strings.Split(script, ""), "\x00")+"\x00")
	add("iso-2022-jp", "iso-2022-jp", "<p>seen</p>\x1b$B<script>\x1b(Bwindow.owned=1</script><img src=\"\x1b(Jhttp://canary.example/jp\" onerror=window.owned=1>")
	add("latin-overlong", "utf-8", "<p>seen</p>\xc0\xbcscript\xc0\xbewindow.owned=1\xc0\xbc/script\xc0\xbe")
	add("nested", "utf-8", "<p>seen</p>"+strings.Repeat("<div><table><tr><td>", 20_000)+script)
	return mails, source
}

// canary is a server that must never be asked. It speaks no protocol: a
// connection is enough.
type canary struct {
	net.Listener
	mu   sync.Mutex // guards seen
	seen []string
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 300)
				n, _ := conn.Read(b)
				first, _, _ := strings.Cut(string(b[:n]), "\r\n")
				_, host, _ := strings.Cut(string(b[:n]), "Host: ")
				host, _, _ = strings.Cut(host, "\r\n")
				c.mu.Lock()
				c.seen = append(c.seen, fmt.Sprintf("%.100q to %s", first, host))
				c.mu.Unlock()
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
				conn.Close()
			}()
		}
	}()
	return c
}

func (c *canary) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// TestHostileMails_InABrowser opens each hostile mail in Chromium, as the page
// shows it, the frame's document alone, and each of the two defences without the
// other: what the sanitiser leaves with no policy around it, and the mail's own
// HTML under our policy. No script runs, nothing is asked of anybody, no name is
// looked up, no page is left, no cookie can be reached. One page without any
// defence shows that all of this would be seen.
func TestHostileMails_InABrowser(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "node", "chromium")
	s := newSite(t)
	mails, source := hostileMails(t)
	ids, n := map[string]string{}, 5000
	like := s.held.items[1]
	for name := range mails {
		it := like
		n++
		it.ID, it.Subject = id(n), name
		s.held.items = append(s.held.items, it)
		ids[name] = it.ID.String()
	}
	s.pages.held, s.pages.opener = hostileHeld{s.held, mails}, inProcess{}
	for _, item := range ids {
		s.call(t, http.MethodPost, "/quarantine/"+item+"/view", url.Values{"purpose": {"analysis"}})
	}
	mux := http.NewServeMux()
	mux.Handle("/", s.echo)
	mux.HandleFunc("/alone/{layer}/{name}", func(w http.ResponseWriter, r *http.Request) {
		html := source[r.PathValue("name")]
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.PathValue("layer") {
		case "sanitiser":
			w.Write(preview.Document("x", preview.HTML(html, preview.Options{}).HTML))
		case "policy":
			w.Header().Set("Content-Security-Policy", previewCSP)
			w.Header().Set("X-DNS-Prefetch-Control", "off")
			io.WriteString(w, strings.ReplaceAll(html, "canary.example", "alone.example"))
		case "none":
			io.WriteString(w, strings.ReplaceAll(html, "canary.example", "control.example"))
		}
	})
	web := httptest.NewServer(mux)
	defer web.Close()
	c, alone, control := newCanary(t), newCanary(t), newCanary(t)
	list, err := json.Marshal(map[string]any{"items": ids, "alone": keysOf(source)})
	if err != nil {
		t.Fatal(err)
	}
	netlog := filepath.Join(t.TempDir(), "netlog.json")
	cmd := exec.Command("node", "e2e/hostile.mjs")
	cmd.Env = append(os.Environ(), "BASE_URL="+web.URL, "CANARY="+c.Addr().String(), "CONTROL="+control.Addr().String(), "ALONE="+alone.Addr().String(), "MAILS="+string(list), "NETLOG="+netlog)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, what := range c.asked() {
		t.Errorf("somebody was asked: %s", what)
	}
	// Under the policy alone Chromium opens connections in advance, which no policy
	// forbids; it must not ask for anything on them.
	for _, what := range alone.asked() {
		if !strings.HasPrefix(what, `""`) {
			t.Errorf("under the policy alone somebody was asked: %s", what)
		}
	}
	if len(control.asked()) == 0 {
		t.Error("the page without defence asked nobody: this test would see nothing")
	}
	// Only canary.example itself has an address here, so other names of it are
	// looked up by whoever looks them up.
	log, err := os.ReadFile(netlog)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dns", "anchor", "evil"} {
		if bytes.Contains(log, []byte(name+".canary.example")) {
			t.Errorf("%s.canary.example was looked up", name)
		}
	}
	if !bytes.Contains(log, []byte("dns.control.example")) {
		t.Error("the page without defence looked up no name: this test would see nothing")
	}
}

func keysOf(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}
