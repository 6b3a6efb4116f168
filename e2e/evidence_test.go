package e2e

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wantEvidence exports a held mail over the API and at the command line, and checks
// what comes out with the program that is handed to others.
func wantEvidence(t *testing.T, s *server, item string) {
	t.Helper()
	a := s.api("admin")
	var e struct{ ID, State, Error string }
	if c := a.do("POST", "quarantine/"+item+"/export", map[string]any{"case": "INC-7", "case_title": "Test", "purpose": "report", "reason": "needed"}, &e); c != 202 {
		t.Fatalf("export: %d", c)
	}
	start := time.Now()
	eventually(t, time.Minute, "the export", func() bool {
		a.do("GET", "exports/"+e.ID, nil, &e)
		return e.State == "done" || e.State == "failed"
	})
	if e.State != "done" {
		t.Fatalf("%s: %s", e.State, e.Error)
	}
	t.Logf("done within %v", time.Since(start).Round(time.Millisecond))
	file := filepath.Join(t.TempDir(), "evidence.zip")
	if out := s.command("evidence", "export", file, "--item", item, "--case", "INC-7", "--reason", "again, by hand"); !strings.Contains(out, "which is not WORM") {
		t.Errorf("evidence export says %q", out)
	}
	verify := func(path string) (string, int) {
		var out bytes.Buffer
		cmd := exec.Command(filepath.Join(binDir, "mailward"), "receipt", "verify", path)
		cmd.Env, cmd.Stdout, cmd.Stderr = []string{"PATH=/nowhere"}, &out, &out
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	if out, code := verify(file); code != 0 || !strings.Contains(out, "case INC-7") {
		t.Errorf("receipt verify: %d, %s", code, out)
	}
	dir := t.TempDir()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "envelope.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := verify(dir); code != 1 || !strings.Contains(out, "CHANGED: envelope.json") {
		t.Errorf("receipt verify of a changed folder: %d, %s", code, out)
	}
	if out, code := verify(t.TempDir()); code != 2 {
		t.Errorf("receipt verify of nothing: %d, %s", code, out)
	}
}
