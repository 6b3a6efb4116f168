package limit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLists(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		p := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var l Lists
	if _, listed := l.Known("bob@ours.example"); listed {
		t.Error("a list where none was loaded")
	}
	if _, listed := (*Lists)(nil).Known("bob@ours.example"); listed {
		t.Error("a list where there are none")
	}
	if err := l.Load(map[string]string{"Ours.example": file("# people\n\nBob@ours.example\nsales\n"), "open.example": file("*\n")}); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string][2]bool{
		"bob@ours.example": {true, true}, "BOB@OURS.EXAMPLE": {true, true}, "sales@ours.example": {true, true}, "sales+x@ours.example": {true, true},
		"eve@ours.example": {false, true}, "any@open.example": {true, true}, "bob@other.example": {false, false},
	} {
		if known, listed := l.Known(address); known != want[0] || listed != want[1] {
			t.Errorf("%s: known %v, listed %v", address, known, listed)
		}
	}
	// What another system tells decides for those that it names, and for no other.
	l.Learn(map[string]map[string]bool{"ours.example": {"eve": true}, "cow.example": {"ann": true}, "all.example": {"*": true}})
	for address, want := range map[string][2]bool{
		"ann@cow.example": {true, true}, "Ann+x@Cow.example": {true, true}, "max@cow.example": {false, false}, "any@all.example": {true, true},
		"eve@ours.example": {false, true}, "bob@ours.example": {true, true}, "bob@other.example": {false, false},
	} {
		if known, listed := l.Known(address); known != want[0] || listed != want[1] {
			t.Errorf("learned: %s: known %v, listed %v", address, known, listed)
		}
	}
	l.Learn(nil)
	if _, listed := l.Known("ann@cow.example"); listed {
		t.Error("what was learned is not forgotten")
	}
	for text, want := range map[string]string{"bob@elsewhere.example\n": "not of this domain", "a b\n": "no address", "@ours.example\n": "no address"} {
		if err := l.Load(map[string]string{"ours.example": file(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := l.Load(map[string]string{"ours.example": "/nowhere"}); err == nil {
		t.Error("a list that is not there was read")
	}
	if known, _ := l.Known("bob@ours.example"); !known {
		t.Error("the old list is gone after a failure")
	}
}
