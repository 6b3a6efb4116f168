package sidecar

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// fuzzLimits are small enough for a fuzzer to hit them.
func fuzzLimits() Limits {
	return Limits{HeaderBytes: 64 << 10, Parts: 100, Depth: 10, Readings: 4, ArchiveDepth: 4, Files: 200, Ratio: 50, Dictionary: 8 << 20, TotalBytes: 16 << 20, Time: 5 * time.Second}
}

// fuzzTime is what one input may take, on a machine that is busy.
const fuzzTime = 15 * time.Second

// scanTwice takes a mail apart, and then once more by a worker that remembers:
// what it says is the same.
func scanTwice(t *testing.T, mail []byte) {
	w := &Worker{Matcher: markMatcher{}, Limits: fuzzLimits(), known: newMemory(time.Now)}
	var first []byte
	for n := range 2 {
		begin := time.Now()
		r, err := w.scan(mail)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > fuzzTime {
			t.Fatalf("took %v", took)
		}
		if len(r.Parts) > w.Limits.Parts {
			t.Fatalf("%d parts", len(r.Parts))
		}
		if slices.Contains(r.Limits, errTimeLimit.Error()) {
			return // How far it came depends on the machine.
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && string(b) != string(first) {
			t.Fatalf("first %s, then %s", first, b)
		}
		first = b
	}
}

// FuzzScan: no mail makes a worker panic, hang or forget.
func FuzzScan(f *testing.F) {
	for _, tt := range tricks {
		f.Add([]byte(tt.mail(hidden)))
	}
	f.Fuzz(func(t *testing.T, mail []byte) {
		scanTwice(t, mail)
		Look(mail, fuzzLimits())
	})
}

// FuzzArchive: no file does so either, whatever its name.
func FuzzArchive(f *testing.F) {
	for name, data := range map[string][]byte{
		"a.zip": []byte(zipText(hidden)), "b.zip": hiddenZip(hidden), "c.zip": overlapping(1000, 3), "d.zip": quine(), "e.zip": lockedZip(hidden, "secret", false), "f.zip": lockedZip(hidden, "secret", true),
		"a.7z": sevenzipDictionary(1), "b.7z": lockedSevenzip(), "a.xz": xzDictionary(1), "a.gz": gzipped(hidden), "a.tar": tarred(hidden), "a.cab": cabinet(hidden), "a.iso": isoOf("A;1", hidden), "b.iso": jolietOf(hidden, false),
		"a.hqx": []byte(binhex("a.txt", hidden)), "a.bin": macBinary(true, "a.txt", hidden), "a.as": appleSingle(0x51600, 1, "a.txt", hidden),
		"winmail.dat": tnef("a.txt", hidden), "a.p7m": signed("Subject: x\r\n\r\n"+hidden, true), "a.eml": []byte("Subject: x\r\n\r\n" + hidden),
	} {
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if len(name) > 100 || len(data) > 1<<20 {
			return
		}
		w := &walker{lim: fuzzLimits(), mail: []byte("\r\n\r\npassword: secret"), match: markMatcher{}, end: time.Now().Add(5 * time.Second), resp: &Response{}, anomaly: map[string]bool{}}
		begin := time.Now()
		if err := w.piece("1", name, "application/octet-stream", "", data, 0, 0); err != nil && !isLimit(err) {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > fuzzTime {
			t.Fatalf("took %v", took)
		}
	})
}
