package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

var tokenIn = regexp.MustCompile(`(?m)^Message-I[dD]: <(tok[0-9a-z]+)@source\.example>`)

// arrival is what came for one token.
type arrival struct {
	times   int
	changed bool // the bytes below the gateway's own header lines are not what was sent
}

// sink is the next hop: it takes everything and counts by token.
type sink struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex // guards what follows
	expected map[string]expectation
	arrived  map[string]*arrival
	foreign  int // mails without a token that was sent
	last     time.Time
	conns    map[net.Conn]bool
	news     chan struct{} // closed and made anew with each arrival that somebody waits for
}

type expectation struct {
	size int
	sum  [32]byte
}

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l, arrived: map[string]*arrival{}, conns: map[net.Conn]bool{}, news: make(chan struct{})}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *sink) addr() string { return s.listener.Addr().String() }

func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// expect tells the sink what a batch should look like when it arrives, and
// forgets the one before.
func (s *sink) expect(mails []mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected, s.arrived, s.foreign = map[string]expectation{}, map[string]*arrival{}, 0
	for _, m := range mails {
		s.expected[m.token] = expectation{size: len(m.raw), sum: m.sum}
	}
}

// got returns what came for a token.
func (s *sink) got(token string) arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.arrived[token]; a != nil {
		return *a
	}
	return arrival{}
}

// wait returns when all tokens have arrived, or none did for stall, with the
// time of the last arrival.
func (s *sink) wait(tokens []string, stall time.Duration) time.Time {
	for {
		s.mu.Lock()
		for len(tokens) > 0 && s.arrived[tokens[0]] != nil {
			tokens = tokens[1:]
		}
		last, news := s.last, s.news
		s.mu.Unlock()
		if len(tokens) == 0 {
			return last
		}
		select {
		case <-news:
		case <-time.After(stall):
			return last
		}
	}
}

func (s *sink) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.session(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *sink) session(c net.Conn) {
	r := bufio.NewReaderSize(c, 256<<10)
	say := func(line string) bool { _, err := io.WriteString(c, line+"\r\n"); return err == nil }
	say("220 sink.example ESMTP")
	var body bytes.Buffer
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(line)), " ")
		switch verb {
		case "EHLO":
			say("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE 104857600\r\n250 ENHANCEDSTATUSCODES")
		case "DATA":
			say("354 go ahead")
			body.Reset()
			if readDot(r, &body) != nil {
				return
			}
			s.take(body.Bytes())
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// take compares a mail with what was sent.
func (s *sink) take(b []byte) {
	m := tokenIn.FindSubmatch(b[:min(len(b), 16<<10)])
	var want expectation
	known := false
	if m != nil {
		s.mu.Lock()
		want, known = s.expected[string(m[1])]
		s.mu.Unlock()
	}
	if !known {
		s.mu.Lock()
		s.foreign++
		s.mu.Unlock()
		return
	}
	// A gateway puts its own lines on top and touches nothing below.
	changed := len(b) < want.size || sha256.Sum256(b[len(b)-want.size:]) != want.sum || !wholeLines(b[:len(b)-want.size])
	token := string(m[1])
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrived[token]
	if a == nil {
		a = &arrival{}
		s.arrived[token] = a
	}
	a.times++
	a.changed = a.changed || changed
	s.last = time.Now()
	close(s.news)
	s.news = make(chan struct{})
}

func wholeLines(top []byte) bool { return len(top) == 0 || bytes.HasSuffix(top, []byte("\r\n")) }

var (
	errCut   = errors.New("the mail was cut off")
	endOfDot = []byte("\r\n.\r\n")
)

// readDot reads a mail up to its final dot into b. Only CRLF . CRLF ends it;
// bytes are kept as they are, which net/textproto would not do. It looks at
// blocks, not at lines: the next hop must not be what is measured.
func readDot(r *bufio.Reader, b *bytes.Buffer) error {
	b.WriteString("\r\n") // a dot may be the very first byte
	for {
		if _, err := r.Peek(1); err != nil {
			return errCut
		}
		block, _ := r.Peek(r.Buffered())
		had := b.Len()
		b.Write(block)
		from := max(0, had-len(endOfDot)+1)
		if i := bytes.Index(b.Bytes()[from:], endOfDot); i >= 0 {
			end := from + i + len(endOfDot)
			r.Discard(end - had)
			b.Truncate(end - 3) // its CRLF belongs to the mail
			break
		}
		r.Discard(len(block))
	}
	if bytes.Contains(b.Bytes(), []byte("\r\n.")) {
		plain := bytes.ReplaceAll(b.Bytes(), []byte("\r\n."), []byte("\r\n"))
		b.Reset()
		b.Write(plain)
	}
	b.Next(2)
	return nil
}
