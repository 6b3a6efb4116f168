package scanner

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner/rules"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func spool(t testing.TB, mail []byte) *message.Spool {
	t.Helper()
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree, cfg.MaxSize, cfg.MaxLine = t.TempDir(), 0, 200<<20, 200<<20
	s, err := message.NewSpooler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := s.FromBytes(mail)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sp.Close)
	return sp
}

func eicar() []byte {
	return []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EIC` + `AR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
}

const mailHead = "From: a@example.com\r\nTo: b@example.org\r\nSubject: test\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n"

func attach(name string, data []byte) []byte {
	return []byte(mailHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream; name=\"" + name +
		"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap(base64.StdEncoding.EncodeToString(data)) + "\r\n--b--\r\n")
}

func wrap(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

func zipOf(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tgzOf(name string, data []byte) []byte {
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600, Typeflag: tar.TypeReg})
	w.Write(data)
	w.Close()
	g.Close()
	return b.Bytes()
}

func uuencode(name string, data []byte) string {
	var b strings.Builder
	b.WriteString("begin 644 " + name + "\r\n")
	for len(data) > 0 {
		n := min(45, len(data))
		line := append(bytes.Clone(data[:n]), 0, 0)
		b.WriteByte(byte(0x20 + n))
		for i := 0; i < n; i += 3 {
			for _, v := range []byte{line[i] >> 2, line[i]<<4&0x30 | line[i+1]>>4, line[i+1]<<2&0x3c | line[i+2]>>6, line[i+2] & 0x3f} {
				if v == 0 {
					b.WriteByte('`')
				} else {
					b.WriteByte(v + 0x20)
				}
			}
		}
		b.WriteString("\r\n")
		data = data[n:]
	}
	b.WriteString("`\r\nend\r\n")
	return b.String()
}

// TestEngines_Conformance holds both engines to the same promises.
func TestEngines_Conformance(t *testing.T) {
	t.Parallel()
	clam, side := testenv.Clamd(t), testenv.Sidecar(t)
	for _, e := range []struct {
		engine Engine
		server *testenv.Server
		bad    []byte
	}{
		{NewClamd(ClamdConfig{Address: clam.Address, Timeout: 5 * time.Second}), clam, attach("a.com", eicar())},
		{NewSidecar(SidecarConfig{Socket: side.Address}), side, attach("invoice.pdf.js", []byte("var a = 1;\r\n"))},
	} {
		t.Run(e.engine.Name(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			clean := Job{MailID: uuid.New(), Spool: spool(t, []byte(mailHead+"\r\nhello\r\n"))}
			bad := Job{MailID: uuid.New(), Spool: spool(t, e.bad)}
			for range 2 {
				if a, err := e.engine.Scan(ctx, clean); err != nil || len(a.Findings) != 0 || a.Info.Version == "" {
					t.Fatalf("clean mail: %+v, %v", a, err)
				}
				if a, err := e.engine.Scan(ctx, bad); err != nil || len(a.Findings) == 0 || a.Findings[0].Engine != e.engine.Name() {
					t.Fatalf("bad mail: %+v, %v", a, err)
				}
			}
			if info, err := e.engine.Check(ctx); err != nil || info.Version == "" {
				t.Errorf("check: %+v, %v", info, err)
			}
			short, stop := context.WithTimeout(ctx, time.Nanosecond)
			defer stop()
			if _, err := e.engine.Scan(short, clean); !errors.Is(err, ErrUnavailable) {
				t.Errorf("no time: %v, want ErrUnavailable", err)
			}
			e.server.Stop()
			if _, err := e.engine.Scan(ctx, bad); err == nil {
				t.Error("a dead engine gave a verdict")
			}
			if _, err := e.engine.Check(ctx); err == nil {
				t.Error("a dead engine passes the check")
			}
			e.server.Start()
			if a, err := e.engine.Scan(ctx, bad); err != nil || len(a.Findings) == 0 {
				t.Errorf("back again: %+v, %v", a, err)
			}
		})
	}
}

// TestScan_FindsEICAREverywhere asks the engines together, as a mail does.
func TestScan_FindsEICAREverywhere(t *testing.T) {
	t.Parallel()
	clam, side := testenv.Clamd(t), testenv.Sidecar(t)
	s, err := New(DefaultConfig(), slog.New(slog.DiscardHandler), NewSidecar(SidecarConfig{Socket: side.Address}), NewClamd(ClamdConfig{Address: clam.Address}))
	if err != nil {
		t.Fatal(err)
	}
	e := eicar()
	z1 := zipOf(t, "a.com", e)
	z2 := zipOf(t, "b.zip", z1)
	b64 := base64.StdEncoding.EncodeToString(e)
	for name, mail := range map[string][]byte{
		"plain":            []byte(mailHead + "\r\n" + string(e) + "\r\n"),
		"base64":           attach("a.com", e),
		"quoted-printable": []byte(mailHead + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.ReplaceAll(string(e), "-", "=2D") + "\r\n"),
		"uuencode":         []byte(mailHead + "\r\nhello\r\n\r\n" + uuencode("a.com", e)),
		"zip":              attach("a.zip", z1),
		"zip in zip":       attach("a.zip", z2),
		"zip x3":           attach("a.zip", zipOf(t, "c.zip", z2)),
		"tgz":              attach("a.tgz", tgzOf("a.com", e)),
		"forwarded":        []byte(mailHead + "Content-Type: message/rfc822\r\n\r\n" + string(attach("a.com", e))),
		"no mail header":   []byte("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64 + "\r\n"),
		"two encodings":    []byte(mailHead + "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + b64 + "\r\n"),
		"padding inside":   []byte(mailHead + "Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(e[:20]) + "\r\n" + base64.StdEncoding.EncodeToString(e[20:]) + "\r\n"),
		"junk in base64":   []byte(mailHead + "Content-Transfer-Encoding: base64\r\n\r\n" + b64[:8] + "*!" + b64[8:] + "\r\n"),
		"no boundary":      bytes.Replace(attach("a.com", e), []byte("; boundary=b"), nil, 1),
		"broken quote":     bytes.Replace(attach("a.com", e), []byte("boundary=b"), []byte("boundary=\"b"), 1),
		"no end":           bytes.Replace(attach("a.com", e), []byte("--b--\r\n"), nil, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rep, _ := s.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, mail)})
			if len(rep.Failed()) > 0 {
				t.Fatalf("no answer of %v", rep.Failed())
			}
			for _, f := range rep.Findings {
				if f.Engine == "clamav" && strings.Contains(strings.ToLower(f.Name), "eicar") && f.Class == policy.Malware {
					return
				}
			}
			t.Errorf("not found; findings %+v, parts %+v", rep.Findings, rep.Parts)
		})
	}
}

// TestRules makes every rule hit its mail and leave its near miss alone.
func TestRules(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	for _, rule := range ruleNames(t) {
		for _, kind := range []string{"hit", "miss"} {
			mail, err := os.ReadFile(filepath.Join("testdata", "mails", rule+"."+kind+".eml"))
			if err != nil {
				t.Errorf("rule %s has no mail that it must %s: %v", rule, kind, err)
				continue
			}
			a, err := side.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, mail)})
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range a.Findings {
				if f.Name == rule {
					found = true
					if f.Reason == "" || f.Meta["author"] == "" || f.Meta["reference"] == "" {
						t.Errorf("rule %s lacks meta data: %+v", rule, f)
					}
				}
			}
			if found != (kind == "hit") {
				t.Errorf("rule %s on its %s: found %v, findings %+v", rule, kind, found, a.Findings)
			}
		}
	}
}

func ruleNames(t *testing.T) (names []string) {
	t.Helper()
	re := regexp.MustCompile(`(?m)^rule (\w+)`)
	err := fs.WalkDir(rules.Files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(rules.Files, p)
		for _, m := range re.FindAllSubmatch(b, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	if err != nil || len(names) < 10 {
		t.Fatalf("%d rules, %v", len(names), err)
	}
	return names
}

// TestScan_HostileMailsEndInTime feeds what costs others minutes or gigabytes.
func TestScan_HostileMailsEndInTime(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	var nested, many, files bytes.Buffer
	nested.WriteString(mailHead)
	for i := range 10_000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	many.WriteString(mailHead + "Content-Type: multipart/mixed; boundary=b\r\n\r\n")
	for range 100_000 {
		many.WriteString("--b\r\n\r\nx\r\n")
	}
	zw := zip.NewWriter(&files)
	for i := range 12_000 {
		zw.Create(fmt.Sprint(i))
	}
	zw.Close()
	deep := eicar()
	for i := range 14 {
		deep = zipOf(t, fmt.Sprint(i, ".zip"), deep)
	}
	for name, mail := range map[string][]byte{
		"10,000 nestings":   nested.Bytes(),
		"100,000 parts":     many.Bytes(),
		"100 MB header":     []byte(mailHead + "X: " + strings.Repeat("a", 100<<20) + "\r\n\r\nx\r\n"),
		"zip bomb":          attach("a.zip", zipOf(t, "a", make([]byte, 60<<20))),
		"12,000 files":      attach("a.zip", files.Bytes()),
		"zip 14 deep":       attach("a.zip", deep),
		"truncated archive": attach("a.zip", zipOf(t, "a", eicar())[:60]),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			a, err := side.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, mail)})
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			for _, f := range a.Findings {
				if f.Class == policy.Unscannable {
					return
				}
			}
			t.Errorf("not unscannable: %+v", a.Findings)
		})
	}
}

// TestScan_BehindALockedFile: an encrypted file in front must not hide the next one.
func TestScan_BehindALockedFile(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, h := range []*zip.FileHeader{{Name: "locked.txt", Flags: 1}, {Name: "invoice.vbs"}} {
		f, err := w.CreateRaw(h)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(nil)
	}
	w.Close()
	a, err := side.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, attach("a.zip", b.Bytes()))})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range a.Findings {
		found[f.Name] = true
	}
	if !found["Mailward.Locked"] || !found["Script_Attachment"] {
		t.Errorf("findings %+v", a.Findings)
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	mail := mailHead + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n--b--\r\n"
	v, err := side.View(context.Background(), spool(t, []byte(mail)).File())
	if err != nil || v.Text != "Grüße" || v.HTML != "<p>Hello</p>" || len(v.Headers) != 7 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestClassify(t *testing.T) {
	for name, want := range map[string]policy.Class{
		"Win.Test.EICAR_HDB-1": policy.Malware, "Heuristics.Limits.Exceeded.MaxFiles": policy.Unscannable, "Heuristics.Encrypted.Zip": policy.Unscannable,
		"Heuristics.Phishing.Email.SpoofedDomain": policy.Phishing, "Heuristics.Structured.CreditCardNumber": policy.DLP, "Heuristics.OLE2.ContainsMacros.VBA": policy.Suspicious,
		"PUA.Win.Packer": policy.Suspicious, "Heuristics.Broken.Executable": policy.Broken, "Heuristics.Something.New": policy.Suspicious,
	} {
		if got := classify(name).Class; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	i := parseVersion("ClamAV 1.4.6/27800/Sun Oct  5 07:34:21 2025\n")
	if i.Version != "ClamAV 1.4.6" || i.Database != "27800" || i.DatabaseTime.Year() != 2025 {
		t.Errorf("%+v", i)
	}
	if i := parseVersion("ClamAV 1.4.6"); i.Version != "ClamAV 1.4.6" || i.Database != "" || !i.DatabaseTime.IsZero() {
		t.Errorf("%+v", i)
	}
}

func BenchmarkScan(b *testing.B) {
	clam, side := testenv.Clamd(b), testenv.Sidecar(b)
	for _, e := range []Engine{NewSidecar(SidecarConfig{Socket: side.Address}), NewClamd(ClamdConfig{Address: clam.Address})} {
		for _, size := range []int{4 << 10, 300 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKB", e.Name(), size>>10), func(b *testing.B) {
				for i := range b.N {
					data := bytes.Repeat([]byte{byte(i), byte(i >> 8), byte(i >> 16), 7, 13, 99, 200, 45}, size/8)
					if _, err := e.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(b, attach("a.bin", data))}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
