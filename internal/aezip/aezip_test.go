package aezip

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestPack_OpenedBySevenZip(t *testing.T) {
	t.Parallel()
	var seven string
	for _, n := range []string{"7zz", "7z"} {
		if p, err := exec.LookPath(n); err == nil {
			seven = p
			break
		}
	}
	if seven == "" {
		testenv.Require(t, "7zz")
	}
	for name, data := range map[string][]byte{"text": []byte(strings.Repeat("X5O!P%@AP is what scanners look for\r\n", 3000)), "empty": {}} {
		z, err := Pack("original.eml", data, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 && bytes.Contains(z, []byte("X5O!P")) {
			t.Error("the text can be read")
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "original.zip"), z, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t, dir, seven, "x", "-pwrong", "original.zip"); err == nil && len(data) > 0 {
			t.Errorf("%s: opens with any password: %s", name, out)
		}
		os.Remove(filepath.Join(dir, "original.eml"))
		if out, err := run(t, dir, seven, "x", "-y", "-p"+Password, "original.zip"); err != nil {
			t.Fatalf("%s: %v %s", name, err, out)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "original.eml")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: comes back otherwise, %v", name, err)
		}
	}
}
