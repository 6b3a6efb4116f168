package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

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

func TestWire(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\r\n":              "a\r\n.\r\n",
		".a\r\n":             "..a\r\n.\r\n",
		"a\r\n.\r\n.b\r\n":   "a\r\n..\r\n..b\r\n.\r\n",
		"a\r\n..\r\nend\r\n": "a\r\n...\r\nend\r\n.\r\n",
	} {
		got := string(bytes.Join(mail{raw: []byte(in)}.wire(), nil))
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		// The sink undoes it, however the bytes come in, and leaves what follows.
		for size := 1; size < len(got)+5; size++ {
			r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(got+"QUIT\r\n")), 16)
			if size > 1 {
				r = bufio.NewReaderSize(strings.NewReader(got+"QUIT\r\n"), 16+size)
			}
			var b bytes.Buffer
			if err := readDot(r, &b); err != nil || b.String() != in {
				t.Errorf("%q came back as %q %v", in, b.String(), err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "QUIT\r\n" {
				t.Errorf("%q: %q is left", in, rest)
			}
		}
	}
	if err := readDot(bufio.NewReader(strings.NewReader("a\r\n")), new(bytes.Buffer)); err == nil {
		t.Error("half a mail was taken")
	}
}

func TestCorpus_RepeatedAttachments(t *testing.T) {
	t.Parallel()
	g := newGenerator(1, "x")
	g.repeat = 0.3
	seen, again, files := map[[32]byte]bool{}, 0, 0
	tokens := map[string]bool{}
	for _, m := range g.batch(400) {
		if tokens[m.token] {
			t.Fatal("two mails share a token")
		}
		tokens[m.token] = true
		if m.kind != attachment && m.kind != archive && m.kind != big {
			continue
		}
		_, file, _ := bytes.Cut(m.raw, []byte("base64\r\n\r\n"))
		file, _, _ = bytes.Cut(file, []byte("--b"+m.token))
		sum := sha256.Sum256(file)
		if files++; seen[sum] {
			again++
		}
		seen[sum] = true
	}
	// 30 % are of the shared ones; the first of each is new.
	if share := float64(again) / float64(files); share < 0.1 || share > 0.35 {
		t.Errorf("%d of %d attachments were there before", again, files)
	}
}

func TestSignatures_AsManyAsSaidAndAlwaysTheSame(t *testing.T) {
	t.Parallel()
	var before []byte
	for range 2 {
		dir := t.TempDir()
		if err := writeSignatures(dir, true); err != nil {
			t.Fatal(err)
		}
		hdb, _ := os.ReadFile(filepath.Join(dir, "bench.hdb"))
		ndb, err := os.ReadFile(filepath.Join(dir, "bench.ndb"))
		if err != nil || bytes.Count(hdb, []byte("\n")) != hashSignatures+1 || bytes.Count(ndb, []byte("\n")) != bodySignatures+1 {
			t.Fatalf("%d and %d lines, %v", bytes.Count(hdb, []byte("\n")), bytes.Count(ndb, []byte("\n")), err)
		}
		wild := 0
		for line := range bytes.Lines(ndb) {
			if bytes.ContainsAny(line[bytes.LastIndexByte(line, ':'):], "{?*") {
				wild++
			}
		}
		if wild < bodySignatures*35/100 || wild > bodySignatures*45/100 {
			t.Errorf("%d with wildcards", wild)
		}
		if before != nil && !bytes.Equal(before, append(hdb, ndb...)) {
			t.Error("the second database is another one")
		}
		before = append(hdb, ndb...)
	}
}

// sendFunc is a sender made of a function.
type sendFunc func(ctx context.Context, m mail) answer

func (f sendFunc) send(ctx context.Context, m mail) answer { return f(ctx, m) }
func (f sendFunc) close()                                  {}
func (f sendFunc) open() sender                            { return f }

// relay stands in the place of the gateway: it passes mail on as it is told to.
func relay(t *testing.T, hop *sink, mangle func(raw []byte) [][]byte, reply string) sendFunc {
	t.Helper()
	return func(ctx context.Context, m mail) answer {
		for _, b := range mangle(m.raw) {
			next := smtpTo(hop.addr(), 1)()
			if a := next.send(ctx, mail{raw: b}); !a.ok {
				t.Errorf("sink: %s", a.reply)
			}
			next.close()
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
		"no answer":           {text, func([]byte) [][]byte { return nil }, "", 0, counts{Errors: 1}},
		"virus refused":       {eicar, func([]byte) [][]byte { return nil }, "550 virus", 0, counts{}},
		"virus put off":       {eicar, func([]byte) [][]byte { return nil }, "451 later", 0, counts{Refused: 1}},
		"harmless refused":    {text, func([]byte) [][]byte { return nil }, "550 virus", 0, counts{Refused: 1}},
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
		o := run(t.Context(), mails, 1, relay(t, hop, c.mangle, c.reply).open)
		sum := sha256.Sum256(mails[0].raw) // what is known of a held mail where nobody read its header
		for _, key := range []string{mails[0].token, string(sum[:])} {
			if got := countMails(mails, o, map[string]int{key: c.held}, hop.got, map[string]int{}); got != c.want {
				t.Errorf("%s: %+v, want %+v", name, got, c.want)
			}
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
	if hop.foreign != 1 { // a bare CR or LF around a dot ends nothing
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
	o := run(ctx, mails, 1, sendFunc(func(context.Context, mail) answer {
		if sent++; sent == 3 {
			cancel()
		}
		return answer{ok: true}
	}).open)
	if sent != 3 || len(o.answers) != 3 {
		t.Errorf("%d sent after the end, %d in the outcome", sent, len(o.answers))
	}
}

func TestProcesses_OfOurselves(t *testing.T) {
	t.Parallel()
	file, err := unix.MemfdCreate("bench", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	if _, err := unix.Write(file, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	me := []tree{{name: "me", root: os.Getpid(), alone: true}}
	peaks := watch(t.Context(), me, time.Hour, true).stop()
	m := peaks["me"]
	if m.rss < 1<<20 || m.pss < 1<<20 || m.pss > m.rss || m.fds < 1<<20 || m.sum < m.rss+1<<20 || peaks["all"] != m {
		t.Errorf("%+v", peaks)
	}
	// A child's work counts as that of its tree, also when it has ended.
	before := cpuSeconds([]tree{{name: "me", root: os.Getpid()}})["me"]
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	if spent := cpuSeconds([]tree{{name: "me", root: os.Getpid()}})["me"] - before; spent <= 0 {
		t.Errorf("a busy child took %v CPU seconds", spent)
	}
	if busy := machineSeconds(); busy < before {
		t.Errorf("the machine worked %v seconds, we %v", busy, before)
	}
}

func TestService_EndsWithWhatItStarted(t *testing.T) {
	t.Parallel()
	if _, err := startService(t.TempDir(), "x", "/nowhere/at-all"); !errors.Is(err, errNotInstalled) {
		t.Errorf("%v", err)
	}
	s, err := startService(t.TempDir(), "stubborn", "sh", "-c", "trap '' TERM; echo started; sleep 300 & wait; sleep 300")
	if err != nil {
		t.Fatal(err)
	}
	started := func(context.Context) error {
		if s.lastLog() != "started" || len(descendants(processes(), s.pid())) < 2 {
			return errors.New("not yet")
		}
		return nil
	}
	if err := s.waitFor(t.Context(), 10*time.Second, started); err != nil {
		t.Fatal(err)
	}
	family := descendants(processes(), s.pid())
	if s.stop(50*time.Millisecond) || len(family) < 2 {
		t.Errorf("it ended in order, or alone: %v", family)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, pid := range family {
			if program(pid) != "" {
				left++
			}
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %v are left", left, family)
		}
	}
	gone, err := startService(t.TempDir(), "gone", "sh", "-c", "echo bad luck; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.waitFor(t.Context(), 10*time.Second, started); err == nil || !strings.Contains(err.Error(), "bad luck") {
		t.Errorf("%v", err)
	}
}

// A small run of the whole tool, with the real gateway.
func TestBench_SmallRunAgainstMailward(t *testing.T) {
	t.Parallel()
	var program string
	for _, name := range []string{"mailward-scanner", "mailward"} {
		var err error
		if program, err = testenv.Program(name); err != nil {
			testenv.Missing(t, err)
		}
	}
	testenv.Clamd(t) // skips, or fails, where there is none
	var out bytes.Buffer
	md := filepath.Join(t.TempDir(), "out.md")
	err := mainErr(t.Context(), []string{"-mailward", program, "-peers", "clamd,mailward", "-c", "4", "-n", "20", "-rounds", "1", "-markdown", md}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	b, err := os.ReadFile(md)
	if err != nil || !bytes.Contains(b, []byte("| mailward | 4 | 1 | ")) || !bytes.Contains(b, []byte("postgres: ")) || !bytes.Contains(b, []byte("times the rate of clamd alone")) && bytes.Contains(b, []byte("| mailward | 8 |")) {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestReport_RatiosGoalsAndBlocks(t *testing.T) {
	t.Parallel()
	all, err := choose("all")
	if err != nil {
		t.Fatal(err)
	}
	m := measured{campaign: campaign{name: "load-light", peers: all, connections: []int{8}, per: []int{1}, count: 100, rounds: 2}, absent: map[string]string{"haraka": "not installed\nat all"}}
	for round, rate := range []float64{100, 50} { // the second round is slower for everybody
		m.results = append(m.results,
			result{Round: round + 1, Peer: clamdAlone, Connections: 8, Per: 1, Mails: 100, Rate: rate, P50MS: 1, P99MS: 10, CPU: map[string]float64{"clamd": 1}},
			result{Round: round + 1, Peer: mailwardWhole, Connections: 8, Per: 1, Mails: 100, Rate: rate * 1.2, P50MS: 1, P99MS: 12, CPU: map[string]float64{"clamd": 1, "mailward": 0.4, "postgres": 0.1}},
			result{Round: round + 1, Peer: "rspamd", Connections: 8, Per: 1, Mails: 100, Rate: rate * 0.6, P50MS: 1, P99MS: 11, CPU: map[string]float64{"clamd": 1, "gateway": 1}})
	}
	text := m.text()
	for _, want := range []string{"| mailward | 8 | 1 | 120 (60 - 120) | 1.20 (1.20 - 1.20) | - |", "Not measured: haraka (not installed at all).", "mailward: 4.00, 0; postgres: 1.00, 0",
		"- reached: mailward, 8 connections: 1.20 (1.20 - 1.20) times the rate of clamd alone (1.0 wanted)",
		"- reached: mailward, 8 connections: 5.00 (5.00 - 5.00) CPU seconds",
		"- missed: mailward beside rspamd, 8 connections: 2.00 times its rate, 1.09 times its p99, 0.75 times its CPU"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if err := m.verdict(); err != nil {
		t.Error(err)
	}
	m.results[1].Counts.Lost = 1
	if m.verdict() == nil {
		t.Error("a lost mail is no error")
	}
	page, err := replaceBlock("a\n<!-- bench x -->\nold\n<!-- end of bench x -->\nb\n", "x", "\nnew\n")
	if err != nil || page != "a\n<!-- bench x -->\nnew\n<!-- end of bench x -->\nb\n" {
		t.Errorf("%q %v", page, err)
	}
	if _, err := replaceBlock(page, "y", "new"); err == nil {
		t.Error("a block that is not there was replaced")
	}
	// What is measured has its place in the documentation.
	docs, err := os.ReadFile("../" + docsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"load-light", "load-large", "load-light-repeat", "load-large-repeat", "off", "memory", "flat"} {
		if _, err := replaceBlock(string(docs), name, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestCrowd_SharesItsBodyAndArrives(t *testing.T) {
	t.Parallel()
	mails := crowdMails(1)[:2]
	hop, err := newSink()
	if err != nil {
		t.Fatal(err)
	}
	defer hop.close()
	hop.expect(mails)
	o := run(t.Context(), mails, 2, smtpTo(hop.addr(), 1))
	if c := countMails(mails, o, nil, hop.got, map[string]int{}); c.bad() || len(mails[0].raw) < crowdMail {
		t.Errorf("%+v", c)
	}
	if _, err := crowdText(mails, o, memory{sum: 1 << 20}, counts{}); err != nil {
		t.Error(err)
	}
	if _, err := crowdText(mails, o, memory{sum: crowdMemory}, counts{}); err == nil {
		t.Error("too much memory is no error")
	}
	if _, err := crowdText(mails, outcome{answers: o.answers[:1]}, memory{}, counts{}); err == nil {
		t.Error("a client without a reply is no error")
	}
}

func TestParse(t *testing.T) {
	if o, err := parse([]string{"-c", "1, 4", "-n", "50"}); err != nil || len(o.connections) != 2 || o.connections[1] != 4 {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range [][]string{{"-c", "0"}, {"-c", "x"}, {"-peers", "nobody"}, {"-mode", "fast"}, {"-signatures", "some"}, {"-repeat", "2"}, {"-rows", "1"}, {"-n", "1"}, {"-rounds", "0"}, {"-c", "9999"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
