package scanner

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/testenv"
	"mailward/policy"
)

// Marks that the signatures of the detection set look for.
const (
	markAny    = "MARK-ANYWHERE-4711"
	markMail   = "MARK-IN-A-MAIL-4712"  // target 4: only in what clamd takes for a mail
	markInMail = "MARK-OF-A-PART-4713"  // in a part whose container is a mail
	markCoded  = "MARK-AS-BASE64-4714x" // in the encoded text of a mail
)

// safeConf is what clamd needs to tell when it stops at a limit.
const safeConf = "AlertExceedsMax yes\nAlertEncrypted yes\nScanMail yes\n"

// clamdWith starts a clamd with signatures and settings of its own.
func clamdWith(t *testing.T, signatures map[string]string, settings string) string {
	t.Helper()
	bin, err := exec.LookPath("clamd")
	if err != nil {
		bin = "/usr/sbin/clamd"
	}
	if _, err := os.Stat(bin); err != nil {
		testenv.Missing(t, err)
	}
	dir, err := os.MkdirTemp("", "mwdet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range signatures {
		if err := os.WriteFile(filepath.Join(dir, "db", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sock := filepath.Join(dir, "s")
	conf := fmt.Sprintf("DatabaseDirectory %s\nLocalSocket %s\nTemporaryDirectory %s\nForeground yes\n%s", filepath.Join(dir, "db"), sock, dir, settings)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config-file", filepath.Join(dir, "conf"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("unix", sock); err == nil {
			c.Close()
			return "unix:" + sock
		}
		if time.Now().After(end) {
			t.Fatalf("clamd does not start:\n%s", out.String())
		}
	}
}

// big is a large attachment with a mark near its front or deep in it.
func big(mark string, deep bool) []byte {
	b := make([]byte, 300_000)
	rand.New(rand.NewSource(7)).Read(b)
	at := 600 // a multiple of 3, so that its base64 does not depend on what is around
	if deep {
		at = 210_000
	}
	copy(b[at:], mark)
	return b
}

// TestDetection measures what is found in a mail that is given to clamd in
// pieces and is not found in the whole mail, and the other way round. The set
// is what docs/standards.md speaks of.
func TestDetection(t *testing.T) {
	t.Parallel()
	h := func(s string) string { return hex.EncodeToString([]byte(s)) }
	hashed := big("hash me", true)
	sum := md5.Sum(hashed)
	address := clamdWith(t, map[string]string{
		"a.ndb": "Det.Any:0:*:" + h(markAny) + "\nDet.Mail:4:*:" + h(markMail) + "\nDet.Coded:4:*:" + h(base64.StdEncoding.EncodeToString([]byte(markCoded))[:24]) + "\n" +
			"Det.EICAR:0:*:" + hex.EncodeToString(eicar()) + "\n",
		"a.ldb": "Det.InMail;Engine:81-255,Container:CL_TYPE_MAIL,Target:0;0;" + h(markInMail) + "\n",
		"a.hdb": fmt.Sprintf("%x:%d:Det.Hash\n", sum, len(hashed)),
		"a.cdb": "Det.Name:CL_TYPE_ZIP:*:^evil\\.exe$:*:*:*:*:*:*\n",
	}, safeConf)
	clam, side := NewClamd(ClamdConfig{Address: address}), NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	scan := func(splits bool, mail []byte) (names []string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Split = splits
		s, err := New(cfg, slog.New(slog.DiscardHandler), side, clam)
		if err != nil {
			t.Fatal(err)
		}
		rep, _ := s.Scan(t.Context(), Job{MailID: uuid.New(), Spool: spool(t, mail)})
		if f := rep.Failed(); len(f) > 0 {
			t.Fatalf("no answer from %v", f)
		}
		for _, f := range rep.Findings {
			if f.Engine == "clamav" && f.Class != policy.Clean {
				names = append(names, strings.TrimSuffix(f.Name, ".UNOFFICIAL"))
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	two := strings.Replace(string(attach("a.bin", big("x", true))), "\r\n--b--", "\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"+
		wrap(base64.StdEncoding.EncodeToString(big(markAny, true)))+"\r\n--b--", 1)
	for name, tt := range map[string]struct {
		mail         []byte
		whole, split string
	}{
		"clean":                                     {attach("a.bin", big("x", true)), "", ""},
		"in the text":                               {[]byte(strings.Replace(string(attach("a.bin", big("x", true))), "hello", markAny, 1)), "Det.Any", "Det.Any"},
		"front of a large part":                     {attach("a.bin", big(markAny, false)), "Det.Any", "Det.Any"},
		"deep in a large part":                      {attach("a.bin", big(markAny, true)), "Det.Any", "Det.Any"},
		"in a small part":                           {attach("a.bin", []byte(markAny)), "Det.Any", "Det.Any"},
		"in the second large part":                  {[]byte(two), "Det.Any", "Det.Any"},
		"in a zip that is a large part":             {attach("a.zip", zipOf(t, "a", big(markAny, true))), "Det.Any", "Det.Any"},
		"in a zip in a zip":                         {attach("a.zip", zipOf(t, "a.zip", zipOf(t, "a", big(markAny, true)))), "Det.Any", "Det.Any"},
		"in a tgz":                                  {attach("a.tgz", tgzOf("a", big(markAny, true))), "Det.Any", "Det.Any"},
		"EICAR behind a large part":                 {[]byte(strings.Replace(string(attach("a.bin", big("x", true))), "\r\n--b--", "\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"+string(eicar())+"\r\n--b--", 1)), "Det.EICAR", "Det.EICAR"},
		"hash of a large part":                      {attach("a.bin", hashed), "Det.Hash", "Det.Hash"},
		"name in a zip that is a large part":        {attach("a.zip", zipOf(t, "evil.exe", big("x", true))), "Det.Name", "Det.Name"},
		"mail signature in the text":                {[]byte(strings.Replace(string(attach("a.bin", big("x", true))), "hello", markMail, 1)), "Det.Mail", "Det.Mail"},
		"mail signature over base64, front":         {attach("a.bin", big(markCoded, false)), "Det.Coded", "Det.Coded"},
		"mail signature over base64, deep":          {attach("a.bin", big(markCoded, true)), "Det.Coded", ""},
		"signature bound to a mail, front of part":  {attach("a.bin", big(markInMail, false)), "Det.InMail", "Det.InMail"},
		"signature bound to a mail, deep in a part": {attach("a.bin", big(markInMail, true)), "Det.InMail", ""},
		"two boundaries, so read as a whole":        {[]byte(strings.Replace(string(attach("a.bin", big(markInMail, true))), "Content-Type: multipart", "Content-Type: multipart/mixed; boundary=c\r\nContent-Type: multipart", 1)), "Det.InMail", "Det.InMail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for splits, want := range map[bool]string{false: tt.whole, true: tt.split} {
				if got := scan(splits, tt.mail); strings.Join(got, " ") != want {
					t.Errorf("split %v: found %q, want %q", splits, got, want)
				}
			}
		})
	}
}

// TestSplit_Unbelieved: cuts that do not fit the mail are not used.
func TestSplit_Unbelieved(t *testing.T) {
	t.Parallel()
	mail := attach("a.bin", big("x", true))
	at := int64(bytes.Index(mail, []byte("base64\r\n\r\n")) + 10)
	end := int64(bytes.Index(mail, []byte("\r\n--b--")))
	sp := spool(t, mail)
	pieces, err := split(t.Context(), sp, []Cut{{Offset: at, Length: end - at}}, true)
	if err != nil || len(pieces) != 2 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	part := make([]byte, pieces[1].size)
	if _, err := pieces[1].file.ReadAt(part, 0); err != nil || !bytes.Equal(part, big("x", true)) {
		t.Errorf("the part is not the attachment: %v", err)
	}
	skeleton := make([]byte, pieces[0].size)
	if _, err := pieces[0].file.ReadAt(skeleton, 0); err != nil || !bytes.HasPrefix(skeleton, mail[:at+headKept-100]) || !bytes.HasSuffix(skeleton, []byte("\r\n--b--\r\n")) || len(skeleton) > 8<<10 {
		t.Errorf("the skeleton has %d bytes, %v", len(skeleton), err)
	}
	if _, err := pieces[1].file.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a part can be changed")
	}
	closeAll(pieces)
	for name, cuts := range map[string][]Cut{
		"not at an empty line": {{Offset: at + 78, Length: end - at - 78}},
		"not up to a boundary": {{Offset: at, Length: end - at - 76}},
		"over the end":         {{Offset: at, Length: int64(len(mail))}},
		"negative":             {{Offset: -1, Length: end}},
		"overlapping":          {{Offset: at, Length: end - at}, {Offset: at, Length: end - at}},
		"too short":            {{Offset: at, Length: 10}},
	} {
		if p, err := split(t.Context(), sp, cuts, true); err == nil {
			t.Errorf("%s: %d pieces", name, len(p))
		}
	}
	junk := bytes.Replace(mail, []byte("A"), []byte("!"), 40)
	if p, err := split(t.Context(), spool(t, junk), []Cut{{Offset: at, Length: end - at}}, true); err == nil {
		t.Errorf("base64 with junk: %d pieces", len(p))
	}
}
