package main

import (
	"bufio"
	"context"
	"encoding/binary"
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
	oneLimit = 90 * time.Second
)

// answer is what became of one mail, as its sender sees it.
type answer struct {
	took  time.Duration
	reply string // the SMTP reply, clamd's answer, or what went wrong
	ok    bool   // accepted, or scanned
}

// outcome is one run of a batch.
type outcome struct {
	answers []answer // in the order of the mails
	took    time.Duration
}

func (o outcome) rate() float64 { return float64(len(o.answers)) / o.took.Seconds() }

// percentile is the p-th percentile of the time of those that were answered.
func (o outcome) percentile(p int) time.Duration {
	var all []time.Duration
	for _, a := range o.answers {
		if a.ok {
			all = append(all, a.took)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}

// run gives each mail to send, at most connections at a time.
func run(ctx context.Context, mails []mail, connections int, send func(ctx context.Context, m mail) answer) outcome {
	o := outcome{answers: make([]answer, len(mails))}
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(mails) {
					return
				}
				o.answers[i] = send(ctx, mails[i])
			}
		})
	}
	wg.Wait()
	o.took = time.Since(began)
	return o
}

// smtpTo sends each mail over a connection of its own, as most senders do. The
// time counts from MAIL FROM to the reply after the final dot.
func smtpTo(addr string) func(context.Context, mail) answer {
	return func(ctx context.Context, m mail) answer {
		d := net.Dialer{Timeout: 10 * time.Second}
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return answer{reply: err.Error()}
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(oneLimit))
		r := bufio.NewReader(c)
		step := func(line string, want byte) (string, error) {
			if line != "" {
				if _, err := io.WriteString(c, line+"\r\n"); err != nil {
					return "", err
				}
			}
			reply, err := readReply(r)
			if err == nil && reply[0] != want {
				err = fmt.Errorf("%s", reply)
			}
			return reply, err
		}
		if _, err := step("", '2'); err != nil {
			return answer{reply: err.Error()}
		}
		if _, err := step("EHLO bench.source.example", '2'); err != nil {
			return answer{reply: err.Error()}
		}
		began := time.Now()
		for _, line := range []string{"MAIL FROM:<sender@source.example>", "RCPT TO:<rcpt@" + domain + ">"} {
			if _, err := step(line, '2'); err != nil {
				return answer{reply: err.Error(), took: time.Since(began)}
			}
		}
		if _, err := step("DATA", '3'); err != nil {
			return answer{reply: err.Error(), took: time.Since(began)}
		}
		if _, err := c.Write(m.wire); err != nil {
			return answer{reply: err.Error(), took: time.Since(began)}
		}
		reply, err := step("", '2')
		a := answer{took: time.Since(began), reply: reply, ok: err == nil}
		if err != nil {
			a.reply = err.Error()
		}
		io.WriteString(c, "QUIT\r\n")
		readReply(r)
		return a
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

// clamdAt scans each mail with clamd alone: INSTREAM in chunks of 64 KB, a
// connection each.
func clamdAt(socket string) func(context.Context, mail) answer {
	return func(ctx context.Context, m mail) answer {
		began := time.Now()
		reply, err := instream(ctx, socket, m.raw)
		a := answer{took: time.Since(began), reply: reply, ok: err == nil && (strings.HasSuffix(reply, "OK") || strings.HasSuffix(reply, "FOUND"))}
		if err != nil {
			a.reply = err.Error()
		}
		return a
	}
}

func instream(ctx context.Context, socket string, raw []byte) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(oneLimit))
	if _, err := io.WriteString(c, "zINSTREAM\x00"); err != nil {
		return "", err
	}
	var size [4]byte
	for len(raw) > 0 {
		n := min(64<<10, len(raw))
		binary.BigEndian.PutUint32(size[:], uint32(n))
		parts := net.Buffers{size[:], raw[:n]}
		if _, err := parts.WriteTo(c); err != nil {
			return "", err
		}
		raw = raw[n:]
	}
	if _, err := c.Write([]byte{0, 0, 0, 0}); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return strings.TrimRight(string(b), "\x00\n"), err
}
