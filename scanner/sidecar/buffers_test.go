package sidecar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestBuffers(t *testing.T) {
	t.Parallel()
	b := &buffers{}
	small, one, two := b.get(100), b.get(bufferMin+1), b.get(bufferMin+1)
	if len(small) != 100 || len(one) != bufferMin+1 || cap(one) != len(one) || &one[0] == &two[0] {
		t.Errorf("%d, %d of %d, %d bytes", len(small), len(one), cap(one), len(two))
	}
	b.reset()
	if again := b.get(2 * bufferMin); &again[0] != &one[0] && &again[0] != &two[0] {
		t.Error("a buffer was not used again")
	}
	if other := b.get(2*bufferMin + 1); &other[0] == &one[0] || &other[0] == &two[0] {
		t.Error("a buffer was used for more than it holds")
	}
	for range 3 {
		b.get(bufferMost / 2)
	}
	b.get(2 * bufferMost)
	b.reset()
	kept := 0
	for _, f := range b.free {
		kept += len(f)
	}
	if kept > bufferMost || len(b.used) > 0 {
		t.Errorf("%d bytes are kept, %d are in use", kept, len(b.used))
	}
	if n := len((*buffers)(nil).get(bufferMin)); n != bufferMin {
		t.Errorf("none gave %d bytes", n)
	}
}

// What was read of one mail, and what is remembered of it, has nothing of the mails
// that came into the same memory after it.
func TestWorker_MailsInTheSameMemory(t *testing.T) {
	t.Parallel()
	page := func(word string) []byte {
		return append(bytes.Repeat([]byte("<p>the "+word+" is <a href=\"https://"+word+".example/\">here</a></p>\r\n"), 700), 0x80)
	}
	var mails [][]byte
	for i, word := range []string{"invoice", "minutes", "numbers"} {
		archive := zipped(t, page(word), junk(byte(i), 40<<10), nil)
		mails = append(mails, attached("a.zip", archive), attached("a.html", page(word)),
			fmt.Appendf(nil, "Subject: odd\r\nContent-Type: text/html\r\nContent-Type: text/plain\r\n\r\n%s", page(word)))
	}
	dir := t.TempDir()
	answer := func(w *Worker, i int) (string, func()) {
		path := filepath.Join(dir, "mail")
		if err := os.WriteFile(path, mails[i], 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		resp, done := w.answerMail(Request{Op: OpScan}, []*os.File{f})
		text, err := json.Marshal(resp)
		if err != nil || resp.Error != "" {
			t.Fatalf("%v %s", err, resp.Error)
		}
		return string(text), done
	}
	worker := func() *Worker {
		return &Worker{Matcher: noMatcher{}, Limits: DefaultLimits(), Inflate: goInflate, Log: slog.New(slog.DiscardHandler), known: newMemory(time.Now)}
	}
	old := worker()
	for n := range 3 * len(mails) {
		got, done := answer(old, n%len(mails))
		done()
		if want, _ := answer(worker(), n%len(mails)); got != want {
			t.Errorf("mail %d of %d: %.500s\nand by a new worker: %.500s", n%len(mails), n, got, want)
		}
	}
}
