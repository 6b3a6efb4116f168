package pg

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAdvisoryLocks_EachNumberHasOneUse: a leader holds its lock for as long as it
// runs, so whoever shares its number waits for ever. The packages keep their
// numbers by themselves, next to what they guard.
func TestAdvisoryLocks_EachNumberHasOneUse(t *testing.T) {
	t.Parallel()
	inSQL := regexp.MustCompile(`pg_(?:try_)?advisory_(?:xact_)?lock\(7238191, (\d+)\)`)
	inGo := regexp.MustCompile(`(?m)^\s*[lL]ock[A-Z]\w+\s+= (\d+)(?: //.*)?$`)
	uses := map[string][]string{}
	add := func(n, use string) {
		if !slices.Contains(uses[n], use) {
			uses[n] = append(uses[n], use)
		}
	}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		switch {
		case strings.HasSuffix(path, ".sql"):
			b, err := os.ReadFile(path)
			for _, m := range inSQL.FindAllSubmatch(b, -1) {
				use := path
				if filepath.Base(filepath.Dir(path)) == "migrations" {
					use = "migrations" // a later one writes a function anew
				}
				add(string(m[1]), use)
			}
			return err
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && filepath.Base(filepath.Dir(path)) == "audit":
			b, err := os.ReadFile(path)
			for _, m := range inGo.FindAllSubmatch(b, -1) {
				add(string(m[1]), path)
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody seals while the database is migrated, which is what is wanted.
	delete(uses, "6")
	// Nobody deletes a month of the record while an export is written.
	delete(uses, "16")
	for n, who := range uses {
		if len(who) > 1 {
			t.Errorf("advisory lock %s is taken by %s", n, strings.Join(who, " and "))
		}
	}
	if len(uses) < 10 {
		t.Errorf("only %d locks were found: does this test still see them all?", len(uses))
	}
}
