package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	domain = "bench.example"
	// oneLimit bounds one mail; the gateway itself promises an answer in 60 s.
	oneLimit = 2 * time.Minute
)

// answer is what became of one mail, as its sender sees it.
type answer struct {
	took  time.Duration
	reply string // the SMTP reply, clamd's answer, or what went wrong
	ok    bool   // accepted, or scanned
	tried bool
}

// outcome is one run of a batch.
type outcome struct {
	answers []answer // in the order of the mails
	began   time.Time
	took    time.Duration
}

func (o outcome) rate() float64 { return float64(len(o.answers)) / o.took.Seconds() }

// percentile is the p-th percentile of the time of those that were answered.
func (o outcome) percentile(p int) time.Duration {
	var all []time.Duration
	for _, a := range o.answers {
		if a.took > 0 {
			all = append(all, a.took)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}

// sender gives mails to one peer, one after the other.
type sender interface {
	send(ctx context.Context, m mail) answer
	close()
}

// run gives each mail to one of so many senders, until all mails are sent or
// the context ends. What was not sent is not in the outcome.
func run(ctx context.Context, mails []mail, connections int, open func() sender) outcome {
	o := outcome{answers: make([]answer, len(mails)), began: time.Now()}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			s := open()
			defer s.close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(mails) {
					return
				}
				o.answers[i] = s.send(context.WithoutCancel(ctx), mails[i])
				o.answers[i].tried = true
			}
		})
	}
	wg.Wait()
	o.took = time.Since(o.began)
	n := len(mails)
	for n > 0 && !o.answers[n-1].tried {
		n--
	}
	o.answers = o.answers[:n]
	return o
}

// smtpSender sends so many mails over each connection.
type smtpSender struct {
	addr string
	per  int
	c    net.Conn
	r    *bufio.Reader
	used int
}

func smtpTo(addr string, per int) func() sender {
	return func() sender { return &smtpSender{addr: addr, per: per} }
}

// send gives one mail. The time counts from MAIL FROM to the reply after the
// final dot; connecting and EHLO do not count, but take their time.
func (s *smtpSender) send(ctx context.Context, m mail) answer {
	if s.c == nil {
		if err := s.connect(ctx); err != nil {
			s.drop()
			return answer{reply: "greeting: " + err.Error()}
		}
	}
	s.c.SetDeadline(time.Now().Add(oneLimit))
	began := time.Now()
	reply, err := s.transaction(m)
	a := answer{reply: reply, took: time.Since(began), ok: err == nil && strings.HasPrefix(reply, "2")}
	if err != nil {
		a.reply = err.Error()
		s.drop()
		return a
	}
	if s.used++; s.used >= s.per || strings.HasPrefix(reply, "421") {
		s.close()
	} else if !a.ok {
		s.command("RSET")
	}
	return a
}

func (s *smtpSender) connect(ctx context.Context) error {
	d := net.Dialer{Timeout: 30 * time.Second}
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(oneLimit))
	s.c, s.r, s.used = c, bufio.NewReader(c), 0
	reply, err := readReply(s.r)
	if err == nil && reply[0] == '2' {
		reply, err = s.command("EHLO bench.source.example")
	}
	if err == nil && reply[0] != '2' {
		err = errors.New(reply)
	}
	return err
}

// transaction returns the reply that ends it: that to the final dot, or the
// first that is not a yes.
func (s *smtpSender) transaction(m mail) (string, error) {
	for _, step := range []struct {
		line string
		want byte
	}{{"MAIL FROM:<sender@source.example>", '2'}, {"RCPT TO:<rcpt@" + domain + ">", '2'}, {"DATA", '3'}} {
		reply, err := s.command(step.line)
		if err != nil || reply[0] != step.want {
			return reply, err
		}
	}
	parts := m.wire()
	if _, err := parts.WriteTo(s.c); err != nil {
		return "", err
	}
	return readReply(s.r)
}

func (s *smtpSender) command(line string) (string, error) {
	if _, err := io.WriteString(s.c, line+"\r\n"); err != nil {
		return "", err
	}
	return readReply(s.r)
}

func (s *smtpSender) close() {
	if s.c != nil {
		s.c.SetDeadline(time.Now().Add(10 * time.Second))
		s.command("QUIT")
	}
	s.drop()
}

func (s *smtpSender) drop() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
}

// readReply reads one reply, whose lines may be several (RFC 5321 §4.2.1).
func readReply(r *bufio.Reader) (string, error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) < 4 {
			return "", fmt.Errorf("short reply %q", line)
		}
		if line[3] != '-' {
			return strings.TrimSpace(line), nil
		}
	}
}

// clamdSender scans each mail with clamd alone: INSTREAM in chunks of 256 KB, a
// connection each.
type clamdSender string

func clamdAt(socket string) func() sender { return func() sender { return clamdSender(socket) } }

func (c clamdSender) close() {}

func (c clamdSender) send(ctx context.Context, m mail) answer {
	began := time.Now()
	reply, err := instream(ctx, string(c), m.raw)
	a := answer{took: time.Since(began), reply: reply, ok: err == nil && (strings.HasSuffix(reply, "OK") || strings.HasSuffix(reply, "FOUND"))}
	if err != nil {
		a.reply = err.Error()
	}
	return a
}

func instream(ctx context.Context, socket string, raw []byte) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(oneLimit))
	parts := net.Buffers{[]byte("zINSTREAM\x00")}
	for len(raw) > 0 {
		n := min(256<<10, len(raw))
		parts = append(parts, binary.BigEndian.AppendUint32(nil, uint32(n)), raw[:n])
		raw = raw[n:]
	}
	parts = append(parts, make([]byte, 4))
	if _, err := parts.WriteTo(c); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return strings.TrimRight(string(b), "\x00\n"), err
}
