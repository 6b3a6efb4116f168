package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
)

var tokenIn = regexp.MustCompile(`(?m)^Message-ID: <(tok[0-9a-z]+)@source\.example>`)

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
	conns    map[net.Conn]bool
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
	s := &sink{listener: l, expected: map[string]expectation{}, arrived: map[string]*arrival{}, conns: map[net.Conn]bool{}}
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

// expect tells the sink what a batch should look like when it arrives.
func (s *sink) expect(mails []mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	r := bufio.NewReaderSize(c, 64<<10)
	say := func(line string) bool { _, err := io.WriteString(c, line+"\r\n"); return err == nil }
	say("220 sink.example ESMTP")
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
			b, err := readDot(r)
			if err != nil {
				return
			}
			s.take(b)
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

func (s *sink) take(b []byte) {
	m := tokenIn.FindSubmatch(b[:min(len(b), 16<<10)])
	s.mu.Lock()
	defer s.mu.Unlock()
	var want expectation
	known := false
	if m != nil {
		want, known = s.expected[string(m[1])]
	}
	if !known {
		s.foreign++
		return
	}
	token := string(m[1])
	a := s.arrived[token]
	if a == nil {
		a = &arrival{}
		s.arrived[token] = a
	}
	a.times++
	// The gateway puts its own lines on top and touches nothing below.
	if len(b) < want.size || sha256.Sum256(b[len(b)-want.size:]) != want.sum || !wholeLines(b[:len(b)-want.size]) {
		a.changed = true
	}
}

func wholeLines(top []byte) bool { return len(top) == 0 || bytes.HasSuffix(top, []byte("\r\n")) }

// readDot reads a mail up to its final dot. Only CRLF . CRLF ends it; bytes are
// kept as they are, which net/textproto would not do.
func readDot(r *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	for {
		line, err := r.ReadSlice('\n')
		for err == bufio.ErrBufferFull {
			b.Write(line)
			line, err = r.ReadSlice('\n')
		}
		if err != nil {
			return nil, err
		}
		start := b.Len() == 0 || bytes.HasSuffix(b.Bytes(), []byte("\r\n"))
		if start && line[0] == '.' {
			if string(line) == ".\r\n" {
				return b.Bytes(), nil
			}
			line = line[1:]
		}
		b.Write(line)
	}
}
