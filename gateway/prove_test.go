package gateway

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/dlp"
	"mailward/scanner/phishing"
)

// blindClamd is a real clamd whose database does not know the test file.
func blindClamd(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "clamd")
	fatal(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	fatal(t, os.Chmod(dir, 0o777))
	db := filepath.Join(dir, "db")
	fatal(t, os.Mkdir(db, 0o755))
	fatal(t, os.WriteFile(filepath.Join(db, "other.hdb"), []byte("d41d8cd98f00b204e9800998ecf8427f:4711:Other.Test\n"), 0o644))
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "clamd.conf")
	fatal(t, os.WriteFile(conf, []byte("Foreground yes\nLocalSocket "+socket+"\nDatabaseDirectory "+db+"\nLogFile /dev/null\nAlertExceedsMax yes\nTemporaryDirectory "+dir+"\n"), 0o644))
	bin, err := exec.LookPath("clamd")
	if err != nil {
		testenv.Missing(t, err)
	}
	cmd := exec.Command(bin, "-c", conf)
	fatal(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c := scanner.NewClamd(scanner.ClamdConfig{Address: "unix:" + socket, Timeout: 5 * time.Second})
	for end := time.Now().Add(60 * time.Second); ; {
		if _, err := c.Check(t.Context()); err == nil {
			return "unix:" + socket
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// engines gives a fixture real engines and judges.
func (f *fixture) engines(clamd, sidecar string) {
	f.t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := scanner.New(scanner.DefaultConfig(), log, scanner.NewSidecar(scanner.SidecarConfig{Socket: sidecar}), scanner.NewClamd(scanner.ClamdConfig{Address: clamd, Timeout: 5 * time.Second}))
	fatal(f.t, err)
	signs, err := phishing.New(phishing.Config{Hostname: "mx.ours.example", Served: func(uuid.UUID) []string { return nil }, People: func(uuid.UUID) []string { return nil }})
	fatal(f.t, err)
	sets := dlp.NewStore(f.db.DB, log)
	fatal(f.t, sets.Load(f.t.Context()))
	f.srv.deps.Scanner = s.WithJudges(signs, dlp.NewJudge(sets))
}

var allMarks = []Mark{TextMark("yara", "mailward-proof-of-detection-7Qm2vXc9LrT4", "Mailward_Proof"), EICARMark("clamav", scanner.TestFile()), PhishingMark(policy.PhishingEngine), TextMark(policy.DLPEngine, dlp.ProofMark, "")}

func results(list []Proof) map[string]string {
	out := map[string]string{}
	for _, p := range list {
		switch {
		case p.Detected:
			out[p.Engine] = "detected"
		case p.Answered:
			out[p.Engine] = "blind"
		default:
			out[p.Engine] = "silent"
		}
	}
	return out
}

func TestProve_EnginesThatDetectAndThatOnlyAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	clam, side := testenv.Clamd(t), testenv.Sidecar(t)
	f.engines(clam.Address, side.Address)
	list := f.srv.Prove(t.Context(), allMarks)
	for _, e := range []string{"yara", "clamav", policy.PhishingEngine, policy.DLPEngine} {
		if got := results(list)[e]; got != "detected" {
			t.Errorf("%s: %s, want detected; %+v", e, got, list)
		}
	}
	// It was nobody's mail: nothing of it is anywhere.
	if n := len(f.hop.Messages()); n != 0 {
		t.Errorf("%d test mails reached the next hop", n)
	}
	for _, table := range []string{"mail", "mail_outcome", "quarantine_item", "delivery"} {
		if n := f.count("SELECT count(*) FROM " + table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}

	// A database without the test file, and rules without the mark, answer as before.
	empty := testenv.SidecarWith(t, "--no-builtin-rules")
	f.engines(blindClamd(t), empty.Address)
	got := results(f.srv.Prove(t.Context(), allMarks))
	if got["clamav"] != "blind" || got["yara"] != "blind" || got[policy.DLPEngine] != "detected" {
		t.Errorf("engines that do not detect: %v", got)
	}
	clam.Stop()
	f.engines(clam.Address, side.Address)
	if got := results(f.srv.Prove(t.Context(), allMarks)); got["clamav"] != "silent" || got["yara"] != "detected" {
		t.Errorf("clamd is gone: %v", got)
	}
}

// A label of ours on the wire makes a mail nothing special.
func TestProve_ALabelOnTheWireIsNoWayAround(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	m, err := f.srv.proofMail(allMarks[0])
	fatal(t, err)
	raw := make([]byte, m.spool.Size())
	_, err = io.ReadFull(m.spool.NewReader(), raw)
	fatal(t, err)
	m.spool.Close()
	text := strings.Replace(string(raw), "Subject: Mailward proof of detection (yara)", "Subject: malware", 1)
	f.dial().send("erika@sender.example", []string{"bob@ours.example"}, text)
	if n := f.count("SELECT count(*) FROM quarantine_item WHERE class = 'malware'"); n != 1 {
		t.Errorf("%d items: a mail with the label of a test mail was not handled as any other", n)
	}
	// And a test mail whose bytes were changed on its way proves nothing.
	m, err = f.srv.proofMail(allMarks[0])
	fatal(t, err)
	defer m.spool.Close()
	m.proof.mark.Body += "x"
	if err := f.srv.handle(context.Background(), slog.New(slog.DiscardHandler), m); err == nil || m.proof.decision != nil {
		t.Error("a changed test mail was believed")
	}
}
