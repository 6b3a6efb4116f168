package message

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func newSpooler(t testing.TB, change func(*Config)) *Spooler {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir, cfg.MinFree, cfg.MemoryLimit = t.TempDir(), 0, 64<<10
	if change != nil {
		change(&cfg)
	}
	s, err := NewSpooler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpool(t *testing.T) {
	t.Parallel()
	s := newSpooler(t, nil)
	for name, mail := range map[string]string{
		"small":     "Received: a\r\nreceived: b\r\n c\r\nSubject: x\r\n\r\nbody\r\n",
		"empty":     "",
		"no body":   "Subject: x\r\n",
		"to disk":   "Subject: x\r\n\r\n" + strings.Repeat("line\r\n", 100_000),
		"just over": "Subject: x\r\n\r\n" + strings.Repeat("x", 64<<10) + "\r\n",
	} {
		for _, r := range []io.Reader{strings.NewReader(mail), iotest.OneByteReader(strings.NewReader(mail)), iotest.HalfReader(strings.NewReader(mail))} {
			sp, err := s.Spool(context.Background(), r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(sp.NewReader())
			if err != nil || string(got) != mail || sp.Size() != int64(len(mail)) || sp.SHA256() != sha256.Sum256([]byte(mail)) {
				t.Errorf("%s: the spool is not the mail (%v)", name, err)
			}
			wantSealed(t, name, sp)
			sp.Close()
			sp.Close()
		}
	}
	if n, m := s.Used(), s.inMemory.Load(); n != 0 || m != 0 {
		t.Errorf("%d bytes are still booked, %d of them in memory", n, m)
	}
	left, err := os.ReadDir(s.cfg.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// TestSpool_MemoryBudget: what does not fit into memory goes to disk, and the
// mails are the same.
func TestSpool_MemoryBudget(t *testing.T) {
	t.Parallel()
	s := newSpooler(t, func(c *Config) { c.MemoryBudget, c.MemoryLimit = 128<<10, 1<<20 })
	mail := "Subject: x\r\n\r\n" + strings.Repeat("line\r\n", 8_000)
	var all []*Spool
	for range 5 {
		sp, err := s.FromBytes([]byte(mail))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(sp.NewReader()); err != nil || string(got) != mail {
			t.Errorf("the spool is not the mail: %v", err)
		}
		wantSealed(t, "one of many", sp)
		all = append(all, sp)
	}
	if n := s.inMemory.Load(); n > 128<<10 || n == 0 {
		t.Errorf("%d bytes in memory", n)
	}
	for _, sp := range all {
		sp.Close()
	}
	if n := s.inMemory.Load(); n != 0 {
		t.Errorf("%d bytes in memory are still booked", n)
	}
}

// wantSealed makes sure that nobody who gets the descriptor can change the mail.
func wantSealed(t *testing.T, name string, sp *Spool) {
	t.Helper()
	if _, err := sp.File().WriteAt([]byte("x"), 0); err == nil {
		t.Errorf("%s: the mail can be written to", name)
	}
	if err := sp.File().Truncate(0); err == nil && sp.Size() > 0 {
		t.Errorf("%s: the mail can be cut", name)
	}
}

func TestSpool_Facts(t *testing.T) {
	t.Parallel()
	sp, err := newSpooler(t, nil).FromBytes([]byte("Received: a\r\nreceived: b\r\n\tReceived: folded\r\nSubject: x\r\n\r\nReceived: body\r\n\xe4\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	head, err := sp.Header(1 << 20)
	if sp.ReceivedCount() != 2 || !sp.EightBit() || err != nil || !bytes.HasSuffix(head, []byte("Subject: x\r\n\r\n")) {
		t.Errorf("received %d, 8-bit %v, header %q, %v", sp.ReceivedCount(), sp.EightBit(), head, err)
	}
}

func TestSpool_Refuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mail   string
		change func(*Config)
		want   error
	}{
		"bare LF":         {"a\nb\r\n", nil, ErrBareNewline},
		"bare CR":         {"a\rb\r\n", nil, ErrBareNewline},
		"CR CR LF":        {"a\r\r\nb", nil, ErrBareNewline},
		"CR at the end":   {"a\r", nil, ErrBareNewline},
		"LF at the end":   {"a\n", nil, ErrBareNewline},
		"a long line":     {strings.Repeat("x", 101) + "\r\n", func(c *Config) { c.MaxLine = 100 }, ErrLongLine},
		"one without end": {strings.Repeat("x", 102), func(c *Config) { c.MaxLine = 100 }, ErrLongLine},
		"too big":         {strings.Repeat("x", 101), func(c *Config) { c.MaxSize = 100 }, ErrTooBig},
		"budget is used":  {"x", func(c *Config) { c.Budget = 10 }, ErrBudget},
	} {
		s := newSpooler(t, tt.change)
		if _, err := s.Spool(context.Background(), strings.NewReader(tt.mail)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if s.Used() != 0 || s.inMemory.Load() != 0 {
			t.Errorf("%s: %d bytes are still booked", name, s.Used())
		}
	}
	s := newSpooler(t, func(c *Config) { c.MaxSize, c.MaxLine = 100, 98 })
	sp, err := s.Spool(context.Background(), strings.NewReader(strings.Repeat("x", 98)+"\r\n"))
	if err != nil {
		t.Fatalf("exactly the limits: %v", err)
	}
	sp.Close()
	if _, err := s.Spool(context.Background(), iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a client that breaks off: %v", err)
	}
	if err := newSpooler(t, func(c *Config) { c.MinFree = 1 << 62 }).Room(0); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := s.Room(32 << 30); !errors.Is(err, ErrBudget) {
		t.Errorf("a mail over the budget: %v", err)
	}
}

func TestSpool_Normalises(t *testing.T) {
	t.Parallel()
	s := newSpooler(t, func(c *Config) { c.Normalise = true })
	for in, want := range map[string]string{"a\nb": "a\r\nb", "a\rb": "a\r\nb", "a\r\nb": "a\r\nb", "a\n\r\nb\r": "a\r\n\r\nb\r\n", "\r\r\n": "\r\n\r\n"} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			sp, err := s.Spool(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(sp.NewReader()); string(got) != want {
				t.Errorf("%q became %q, want %q", in, got, want)
			}
			sp.Close()
		}
	}
}

func TestHeaderEdits(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"none":               {"Subject: x\r\nAuthentication-Results: other.example; spf=pass\r\n\r\n", "Subject: x\r\nAuthentication-Results: other.example; spf=pass\r\n\r\n"},
		"ours":               {"A: 1\r\nAuthentication-Results: mx.ours.example; spf=pass\r\nB: 2\r\n\r\n", "A: 1\r\nB: 2\r\n\r\n"},
		"folded":             {"Authentication-Results:\r\n\tmx.ours.example;\r\n spf=pass\r\nB: 2\r\n\r\n", "B: 2\r\n\r\n"},
		"case and version":   {"AUTHENTICATION-results: MX.OURS.EXAMPLE 1; spf=pass\r\n\r\n", "\r\n"},
		"comment":            {"Authentication-Results: (a (nested) one) mx.ours.example; x\r\n\r\n", "\r\n"},
		"quoted":             {"Authentication-Results: \"mx.ours.example\"; x\r\n\r\n", "\r\n"},
		"quoted, escaped":    {"Authentication-Results: \"mx\\.ours.example \" ; x\r\n\r\n", "\r\n"},
		"quoted, folded":     {"Authentication-Results: \"mx.ours.example\r\n \"; x\r\n\r\n", "\r\n"},
		"comment behind":     {"Authentication-Results: mx.ours.example(x); spf=pass\r\n\r\n", "\r\n"},
		"no semicolon":       {"Authentication-Results: mx.ours.example spf=pass\r\n\r\n", "\r\n"},
		"nothing behind":     {"Authentication-Results: mx.ours.example\r\n\r\n", "\r\n"},
		"a comma":            {"Authentication-Results: mx.ours.example, spf=pass\r\n\r\n", "\r\n"},
		"version, comments":  {"Authentication-Results:\r\n (a)\r\n\t(b \\) c) mx.ours.example (d) 1 (e);\r\n spf=pass\r\n\r\n", "\r\n"},
		"final dot":          {"Authentication-Results: mx.ours.example.; spf=pass\r\n\r\n", "\r\n"},
		"full width":         {"Authentication-Results: \uff4dx\u3002ours.example; spf=pass\r\n\r\n", "\r\n"},
		"several":            {"Authentication-Results: mx.ours.example; a\r\nAuthentication-Results: x.example; b\r\nAuthentication-Results: Mx.Ours.Example; c\r\nA: 1\r\n\r\n", "Authentication-Results: x.example; b\r\nA: 1\r\n\r\n"},
		"control characters": {"Authentication-Results:\x0b\x00mx.ours.example\x0c; x\r\n\r\n", "\r\n"},
		"wide spaces":        {"Authentication-Results: \u00a0\u3000mx.ours.example\u0085; x\r\n\r\n", "\r\n"},
		"folded before :":    {"Authentication-Results\r\n : mx.ours.example; x\r\nX-Mailward-ID: 1\r\n\r\n", "\r\n"},
		"no authserv-id":     {"Authentication-Results: ; spf=pass\r\n\r\n", "Authentication-Results: ; spf=pass\r\n\r\n"},
		"our name later":     {"Authentication-Results: x.example; spf=pass (mx.ours.example)\r\n\r\n", "Authentication-Results: x.example; spf=pass (mx.ours.example)\r\n\r\n"},
		"ARC's":              {"ARC-Authentication-Results: i=1; mx.ours.example; x\r\n\r\n", "ARC-Authentication-Results: i=1; mx.ours.example; x\r\n\r\n"},
		"no colon":           {"Authentication-Results mx.ours.example\r\nX-Mailward-ID\r\n\r\n", "Authentication-Results mx.ours.example\r\nX-Mailward-ID\r\n\r\n"},
		"begins folded":      {" dkim=pass\r\n\tx: y\r\nA: 1\r\n b\r\n\r\n", "A: 1\r\n b\r\n\r\n"},
		"blank before :":     {"Authentication-Results : mx.ours.example; x\r\nX-Mailward-ID\t: x\r\n\r\n", "\r\n"},
		"a longer name":      {"Authentication-Results: mx.ours.example.evil.example; x\r\n\r\n", "Authentication-Results: mx.ours.example.evil.example; x\r\n\r\n"},
		"all of X-Mailward":  {"x-mailward-verdict: clean\r\nX-Mailward-Anything: y\r\n z\r\nX-Mail: 1\r\n\r\n", "X-Mail: 1\r\n\r\n"},
		"not the body":       {"A: 1\r\n\r\nX-Mailward-ID: body\r\n", "A: 1\r\n\r\nX-Mailward-ID: body\r\n"},
		"unclosed comment":   {"Authentication-Results: (((\r\n\r\n", "Authentication-Results: (((\r\n\r\n"},
	} {
		edits := HeaderEdits([]byte(tt.in), "mx.ours.example")
		got, err := io.ReadAll(Without(strings.NewReader(tt.in), int64(len(tt.in)), edits))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		stream, err := io.ReadAll(WithoutStream(iotest.HalfReader(strings.NewReader(tt.in)), edits))
		if err != nil || string(stream) != tt.want {
			t.Errorf("%s as a stream: %q, %v", name, stream, err)
		}
	}
	if _, err := io.ReadAll(WithoutStream(strings.NewReader("short"), []Range{{Offset: 3, Length: 100}})); !errors.Is(err, ErrRanges) {
		t.Errorf("edits beyond the mail: %v", err)
	}
}

// FuzzStrictCRLF: what gets through has no bare CR or LF, however it is cut.
func FuzzStrictCRLF(f *testing.F) {
	f.Add([]byte("a\r\nb\n"), 2, true)
	f.Add([]byte("a\rb\r"), 2, false)
	f.Fuzz(func(t *testing.T, b []byte, cut int, normalise bool) {
		l := strictCRLF{normalise: normalise, maxLine: 100}
		cut = max(0, min(cut, len(b)))
		var out []byte
		for _, piece := range [][]byte{b[:cut], b[cut:]} {
			kept, err := l.filter(piece)
			if err != nil {
				wantRefusable(t, b, normalise, err)
				return
			}
			out = append(out, kept...)
		}
		rest, err := l.end()
		if err != nil {
			wantRefusable(t, b, normalise, err)
			return
		}
		out = append(out, rest...)
		if bare := bytes.ReplaceAll(out, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n") {
			t.Errorf("%q became %q", b, out)
		}
		if !normalise && !bytes.Equal(out, b) {
			t.Errorf("%q was changed to %q", b, out)
		}
		for line := range bytes.SplitSeq(out, []byte("\r\n")) {
			if len(line) > 101 {
				t.Errorf("a line of %d octets came through", len(line))
			}
		}
	})
}

// wantRefusable: a mail is refused only for what is wrong with it.
func wantRefusable(t *testing.T, b []byte, normalise bool, err error) {
	t.Helper()
	bare := bytes.ContainsAny(bytes.ReplaceAll(b, []byte("\r\n"), nil), "\r\n")
	if errors.Is(err, ErrBareNewline) && (normalise || !bare) {
		t.Errorf("%q is refused for a bare line end", b)
	}
	long := false
	for line := range bytes.FieldsFuncSeq(b, func(r rune) bool { return r == '\r' || r == '\n' }) {
		long = long || len(line) > 99
	}
	if errors.Is(err, ErrLongLine) && !long {
		t.Errorf("%q is refused for a long line", b)
	}
}

func FuzzHeaderEdits(f *testing.F) {
	f.Add([]byte("Authentication-Results: (x\\) mx; y\r\nX-Mailward-ID: 1\r\n\r\nbody"))
	f.Fuzz(func(t *testing.T, b []byte) {
		edits := HeaderEdits(b, "mx")
		a, err := io.ReadAll(Without(bytes.NewReader(b), int64(len(b)), edits))
		if err != nil {
			t.Fatal(err)
		}
		s, err := io.ReadAll(WithoutStream(bytes.NewReader(b), edits))
		if err != nil || !bytes.Equal(a, s) {
			t.Errorf("two readings differ: %q, %q, %v", a, s, err)
		}
		if len(HeaderEdits(a, "mx")) > 0 && len(edits) > 0 && bytes.Contains(b, []byte("\r\n\r\n")) && !bytes.Contains(bytes.ReplaceAll(b, []byte("\r\n"), nil), []byte("\n")) {
			t.Errorf("after the edits something of ours is left: %q", a)
		}
	})
}

// Our name in the other form of an internationalised name is our name.
func TestHeaderEdits_IDN(t *testing.T) {
	for _, id := range []string{"mx.b\u00fccher.example", "mx.xn--bcher-kva.example"} {
		for _, written := range []string{"mx.b\u00fccher.example", "MX.B\u00dcCHER.example", "mx.xn--bcher-kva.example", "\"mx.XN--bcher-kva.example\""} {
			if len(HeaderEdits([]byte("Authentication-Results: "+written+"; spf=pass\r\n\r\n"), id)) != 1 {
				t.Errorf("%s passes for another than %s", written, id)
			}
		}
	}
}

func BenchmarkSpool(b *testing.B) {
	s := newSpooler(b, nil)
	mail := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 4000))
	b.SetBytes(int64(len(mail)))
	for b.Loop() {
		sp, err := s.FromBytes(mail)
		if err != nil {
			b.Fatal(err)
		}
		sp.Close()
	}
}

// TestSpool_HiddenEnd: a line that is a dot once its NULs are gone is refused,
// however the mail is cut, and no other line.
func TestSpool_HiddenEnd(t *testing.T) {
	t.Parallel()
	for _, normalise := range []bool{false, true} {
		s := newSpooler(t, func(c *Config) { c.Normalise = normalise })
		for in, bad := range map[string]bool{
			"a\r\n\x00.\r\nb\r\n": true, "\x00.\r\n": true, "\x00\x00.\r\n": true, "a\r\n.\x00\r\n": true, "a\r\n\x00.\x00\x00\r\nb": true, "a\r\n\x00.": true, "a\r\n\x00.\x00": true,
			"a\r\n.\r\nb\r\n": false, "a\r\n\x00\r\n": false, "a\x00.\r\n": false, "\x00a.\r\n": false, "\x00..\r\n": false, "..\x00\r\n": false, "\x00. \r\n": false, ".": false, "\x00": false, "\x00\r\n.\r\n": false,
		} {
			for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in)), iotest.HalfReader(strings.NewReader(in))} {
				sp, err := s.Spool(context.Background(), r)
				if bad != errors.Is(err, ErrHiddenEnd) || !bad && err != nil {
					t.Errorf("%q: %v", in, err)
				}
				if err == nil {
					sp.Close()
				}
			}
		}
	}
}

// FuzzHiddenEnd: what is found is what is there, however it is cut.
func FuzzHiddenEnd(f *testing.F) {
	f.Add([]byte("a\r\n\x00.\r\nb\r\n"), 4)
	f.Add([]byte(".\x00\r\n.\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		cut = max(0, min(cut, len(b)))
		want := false
		for line := range bytes.SplitSeq(b, []byte("\r\n")) {
			want = want || len(line) > 1 && string(bytes.ReplaceAll(line, []byte{0}, nil)) == "."
		}
		var h HiddenEnd
		if got := h.Find(b[:cut]) || h.Find(b[cut:]) || h.AtEnd(); got != want {
			t.Errorf("%q, cut at %d: %v", b, cut, got)
		}
	})
}
