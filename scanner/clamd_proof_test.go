package scanner

import (
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/testenv"
	"mailward/policy"
)

// debianConf is what Debian's package comes with: small limits, and everything
// beyond them is OK.
const debianConf = "MaxFileSize 25M\nMaxScanSize 100M\nStreamMaxLength 25M\nMaxRecursion 16\nAlertExceedsMax no\n"

func eicarSignature() map[string]string {
	return map[string]string{"e.ndb": "Eicar-Test-Signature:0:*:" + hex.EncodeToString(testFile()) + "\n"}
}

func TestReach(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		signatures map[string]string
		settings   string
		file       int64
		alerts     bool
		limit      int64
	}{
		"it tells":                {eicarSignature(), safeConf, 99 << 20, true, 99 << 20},
		"Debian's configuration":  {eicarSignature(), debianConf, 25<<20 - 25<<20/100, false, 25<<20 - 25<<20/100},
		"it knows no test file":   {map[string]string{"e.ndb": "A:0:*:41414141424242424343434344444444\n"}, debianConf, 0, false, reachUnproven},
		"it knows none but tells": {map[string]string{"e.ndb": "A:0:*:41414141424242424343434344444444\n"}, safeConf, 0, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewClamd(ClamdConfig{Address: clamdWith(t, tt.signatures, tt.settings)})
			r := c.Reach(t.Context())
			if r.Alerts != tt.alerts || r.limit() != tt.limit || tt.file != 99<<20 && r.File != tt.file || r.At.IsZero() {
				t.Errorf("%+v, limit %d", r, r.limit())
			}
		})
	}
}

// What clamd lets through because it is too big for it is not clean: neither a
// mail, nor a file in an archive.
func TestScan_BeyondClamdsReach(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	clamd := NewClamd(ClamdConfig{Address: clamdWith(t, eicarSignature(), debianConf)})
	cfg := DefaultConfig()
	cfg.Split = true
	s, err := New(cfg, slog.New(slog.DiscardHandler), side, clamd)
	if err != nil {
		t.Fatal(err)
	}
	// Digits: they shrink to about half, and not far enough to be a bomb.
	random := rand.New(rand.NewPCG(1, 2))
	text := func(mb int) []byte {
		b := make([]byte, mb<<20)
		for i := range b {
			b[i] = '0' + byte(random.IntN(10))
		}
		return b
	}
	for name, tt := range map[string]struct {
		mail []byte
		want bool
	}{
		"a part of 20 MB":               {attach("a.bin", text(20)), false},
		"a part of 28 MB":               {attach("a.bin", text(28)), true},
		"a file of 20 MB in an archive": {attach("a.zip", zipOf(t, "a.txt", text(20))), false},
		"a file of 28 MB in an archive": {attach("a.zip", zipOf(t, "a.txt", text(28))), true},
	} {
		t.Run(name, func(t *testing.T) {
			rep, _ := s.Scan(t.Context(), Job{MailID: uuid.New(), Spool: spool(t, tt.mail)})
			got := slices.ContainsFunc(rep.Findings, func(f policy.Finding) bool {
				return f.Class == policy.Unscannable && f.Name == "Mailward.ClamAV.TooBig"
			})
			if len(rep.Failed()) > 0 || got != tt.want {
				t.Errorf("no answer of %v, findings %+v", rep.Failed(), rep.Findings)
			}
		})
	}
}
