package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net"
	netmail "net/mail"
	"os"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestCorpus_MixSizesAndUniqueness(t *testing.T) {
	t.Parallel()
	mails := newGenerator(1, "x").batch(200)
	count, bytesOf := map[kind]int{}, map[kind]int{}
	seen := map[[32]byte]bool{}
	for _, m := range mails {
		count[m.kind]++
		bytesOf[m.kind] += len(m.raw)
		if !bytes.Contains(m.raw, []byte(m.token)) || bytes.Count(m.raw, []byte("\n")) != bytes.Count(m.raw, []byte("\r\n")) || !bytes.HasSuffix(m.raw, []byte("\r\n")) {
			t.Fatalf("%s: no token, or odd line ends", m.kind)
		}
		if _, err := netmail.ReadMessage(bytes.NewReader(m.raw)); err != nil {
			t.Fatalf("%s: %v", m.kind, err)
		}
		// Each block of the mail must be new, or a cache could answer for it.
		for b := m.raw; len(b) >= 4096 && m.kind != eicar; b = b[4096:] {
			sum := sha256.Sum256(b[:4096])
			if seen[sum] {
				t.Fatalf("%s: a block is there twice", m.kind)
			}
			seen[sum] = true
		}
	}
	for k, want := range map[kind]struct{ n, size int }{text: {80, 4 << 10}, html: {70, 30_000}, attachment: {28, 300_000}, archive: {16, 1 << 20}, big: {4, 5 << 20}, eicar: {2, 0}} {
		if count[k] != want.n {
			t.Errorf("%s: %d, want %d", k, count[k], want.n)
		}
		if mean := bytesOf[k] / max(1, count[k]); want.size > 0 && (mean < want.size*85/100 || mean > want.size*115/100) {
			t.Errorf("%s: %d bytes on average, want about %d", k, mean, want.size)
		}
	}
	again, other := newGenerator(1, "x").batch(20), newGenerator(1, "y").batch(20)
	first := newGenerator(1, "x").batch(20)
	for i := range again {
		if !bytes.Equal(first[i].raw, again[i].raw) {
			t.Fatal("the same seed and run made another mail")
		}
		if first[i].token == other[i].token {
			t.Fatal("two runs share a token")
		}
	}
}

func TestStuff(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\n":              "a\r\n.\r\n",
		".a\r\n":             "..a\r\n.\r\n",
		"a\r\n.\r\n.b\r\n":   "a\r\n..\r\n..b\r\n.\r\n",
		"a\r\n..\r\nend\r\n": "a\r\n...\r\nend\r\n.\r\n",
	} {
		if got := string(stuff([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// relay stands in the place of the gateway: it passes mail on as it is told to.
func relay(t *testing.T, hop *sink, mangle func(raw []byte) [][]byte, reply string) func(context.Context, mail) answer {
	t.Helper()
	return func(ctx context.Context, m mail) answer {
		for _, b := range mangle(m.raw) {
			a := smtpTo(hop.addr())(ctx, mail{wire: stuff(b)})
			if !a.ok {
				t.Errorf("sink: %s", a.reply)
			}
		}
		return answer{ok: strings.HasPrefix(reply, "2"), reply: reply, took: time.Millisecond}
	}
}

func TestCounts_SeeEveryKindOfMistake(t *testing.T) {
	t.Parallel()
	once := func(b []byte) [][]byte { return [][]byte{append([]byte("Received: by us\r\n"), b...)} }
	for name, c := range map[string]struct {
		kind   kind
		mangle func([]byte) [][]byte
		reply  string
		held   int
		want   counts
	}{
		"right": {text, once, "250 ok", 0, counts{}},
		"lost":  {text, func([]byte) [][]byte { return nil }, "250 ok", 0, counts{Lost: 1}},
		"twice": {text, func(b []byte) [][]byte { return [][]byte{b, b} }, "250 ok", 0, counts{Duplicate: 1}},
		"changed": {text, func(b []byte) [][]byte {
			return [][]byte{bytes.Replace(b, []byte("MIME-Version: 1.0"), []byte("MIME-Version: 1.1"), 1)}
		}, "250 ok", 0, counts{Changed: 1}},
		"cut short":           {text, func(b []byte) [][]byte { return [][]byte{b[:bytes.LastIndex(b[:len(b)-2], []byte("\r\n"))+2]} }, "250 ok", 0, counts{Changed: 1}},
		"refused":             {text, func([]byte) [][]byte { return nil }, "451 later", 0, counts{Refused: 1}},
		"refused and arrived": {text, once, "451 later", 0, counts{Refused: 1, Ghost: 1}},
		"virus held":          {eicar, func([]byte) [][]byte { return nil }, "250 ok", 1, counts{}},
		"virus vanished":      {eicar, func([]byte) [][]byte { return nil }, "250 ok", 0, counts{Lost: 1}},
		"virus let through":   {eicar, once, "250 ok", 0, counts{Leaked: 1}},
		"harmless but held":   {text, func([]byte) [][]byte { return nil }, "250 ok", 1, counts{Held: 1}},
		"held twice":          {eicar, func([]byte) [][]byte { return nil }, "250 ok", 2, counts{Duplicate: 1}},
	} {
		hop, err := newSink()
		if err != nil {
			t.Fatal(err)
		}
		mails := []mail{newGenerator(1, "x").mail(c.kind)}
		hop.expect(mails)
		o := run(t.Context(), mails, 1, relay(t, hop, c.mangle, c.reply))
		got := countMails(mails, o, map[string]int{mails[0].token: c.held}, hop.got, map[string]int{})
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		hop.close()
	}
}

func TestSink_ForeignMailAndBareLineEnds(t *testing.T) {
	t.Parallel()
	hop, err := newSink()
	if err != nil {
		t.Fatal(err)
	}
	defer hop.close()
	c, err := net.Dial("tcp", hop.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "EHLO x\r\nDATA\r\nSubject: x\r\n\r\na\n.\nb\r.\r\n..dot\r\n.\r\nQUIT\r\n")
	all, _ := io.ReadAll(c)
	if !strings.HasSuffix(string(all), "250 2.0.0 taken\r\n221 2.0.0 bye\r\n") {
		t.Errorf("%q", all)
	}
	hop.mu.Lock()
	defer hop.mu.Unlock()
	if hop.foreign != 1 {
		t.Errorf("%d foreign mails", hop.foreign)
	}
}

func TestClamdAlone_FindsWhatIsInfectedAndNothingElse(t *testing.T) {
	t.Parallel()
	socket := strings.TrimPrefix(testenv.Clamd(t).Address, "unix:")
	mails := newGenerator(3, "x").batch(100)
	for range 3 {
		mails = append(mails, newGenerator(uint64(len(mails)), "e").mail(eicar))
	}
	o := run(t.Context(), mails, 4, clamdAt(socket))
	replies := map[string]int{}
	if c := countScans(mails, o, replies); c.bad() {
		t.Errorf("%+v %v", c, replies)
	}
	if o.percentile(99) < o.percentile(50) || o.percentile(50) <= 0 {
		t.Errorf("p50 %v, p99 %v", o.percentile(50), o.percentile(99))
	}
}

func TestRun_StopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	mails := make([]mail, 1000)
	sent := 0
	run(ctx, mails, 1, func(context.Context, mail) answer {
		if sent++; sent == 3 {
			cancel()
		}
		return answer{ok: true}
	})
	if sent != 3 {
		t.Errorf("%d sent after the end", sent)
	}
}

func TestMemoryAndProcessorTimeOfOurselves(t *testing.T) {
	w := watch(t.Context(), os.Getpid())
	w.sample()
	peaks, total := w.stop()
	if total.peakRSS < 1<<20 || total.peakPSS < 1<<20 || total.peakPSS > total.peakRSS || len(peaks) == 0 {
		t.Errorf("%+v %+v", peaks, total)
	}
	if s := cpuSeconds(os.Getpid()); s < 0 || s > 3600 {
		t.Errorf("%v CPU seconds", s)
	}
}

func TestParse(t *testing.T) {
	if o, err := parse([]string{"-c", "1, 4", "-n", "50"}); err != nil || len(o.connections) != 2 || o.connections[1] != 4 {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range [][]string{{"-c", "0"}, {"-c", "x"}, {"-n", "1"}, {"-rounds", "0"}, {"-c", "9999"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
