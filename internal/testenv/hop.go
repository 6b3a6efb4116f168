package testenv

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
)

// Message is one mail that the hop accepted, to the byte.
type Message struct {
	From string
	To   []string
	Data []byte // without the final dot, dot-stuffing undone
}

// Fault is a way to misbehave.
type Fault int

// The faults of a next hop.
const (
	NoFault       Fault = iota
	DropAfterDot        // takes the mail, then breaks off without a reply
	StopMidReply        // writes half of the reply to the final dot, then breaks off
	Nonsense            // replies to the final dot with something that is no SMTP
	HangAfterDot        // takes the mail and never replies
	DropAtMail          // breaks off at MAIL
	HugeReply           // sends a reply without end
	RefuseConnect       // breaks off before the greeting
)

// Hop is a next hop that records mails. It does its own SMTP, so that a test
// sees every byte and can break any step.
type Hop struct {
	Addr string
	l    net.Listener

	mu         sync.Mutex // guards all below
	messages   []Message
	refuse     int
	refuseRcpt map[string]int
	fault      Fault
	conns      map[net.Conn]bool
	features   []string
	says       map[string]string
	tls        *tls.Config
	login      *hopLogin
	commands   []string
	accepted   int
	dot        <-chan struct{}
	wg         sync.WaitGroup
}

// NextHop starts a next hop on loopback that lives as long as the test.
func NextHop(t testing.TB) *Hop { t.Helper(); return NextHopAt(t, "127.0.0.1:0") }

// NextHopAt is NextHop on an address of its own.
func NextHopAt(t testing.TB, addr string) *Hop {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hop{Addr: l.Addr().String(), l: l, refuseRcpt: map[string]int{}, conns: map[net.Conn]bool{}, says: map[string]string{},
		features: []string{"PIPELINING", "8BITMIME", "SIZE 104857600", "ENHANCEDSTATUSCODES"}}
	h.wg.Go(h.serve)
	t.Cleanup(h.Close)
	return h
}

// Close stops the hop; connections to it are refused from then on.
func (h *Hop) Close() {
	h.l.Close()
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Features replaces what the hop offers in EHLO.
func (h *Hop) Features(f ...string) { h.mu.Lock(); defer h.mu.Unlock(); h.features = f }

// Refuse makes the hop answer the final dot with this code; 0 is normal again.
func (h *Hop) Refuse(code int) { h.mu.Lock(); defer h.mu.Unlock(); h.refuse = code }

// RefuseRcpt makes the hop answer RCPT for one address with this code; 0 is normal again.
func (h *Hop) RefuseRcpt(addr string, code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuseRcpt[strings.ToLower(addr)] = code
}

// Fail makes the hop misbehave from now on.
func (h *Hop) Fail(f Fault) { h.mu.Lock(); defer h.mu.Unlock(); h.fault = f }

// HoldDot makes the hop answer the final dot, of a mail that it has taken, only
// when the channel is closed.
func (h *Hop) HoldDot(until <-chan struct{}) { h.mu.Lock(); defer h.mu.Unlock(); h.dot = until }

// Messages are the mails that the hop has got so far. With [DropAfterDot] and
// its like it has got a mail although nobody was told.
func (h *Hop) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Message(nil), h.messages...)
}

func (h *Hop) serve() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[c] = true
		h.accepted++
		h.mu.Unlock()
		h.wg.Go(func() {
			(&hopSession{h: h, c: c}).run()
			c.Close()
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
		})
	}
}

func (h *Hop) state() (Fault, int, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault, h.refuse, h.features
}

func readData(r *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	for {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			b.Write(line)
			continue
		}
		if err != nil {
			return nil, err
		}
		atStart := b.Len() == 0 || bytes.HasSuffix(b.Bytes(), []byte("\r\n"))
		if atStart && bytes.Equal(line, []byte(".\r\n")) {
			return b.Bytes(), nil
		}
		if atStart && line[0] == '.' {
			line = line[1:]
		}
		b.Write(line)
	}
}

func addressIn(line string) string {
	i, j := strings.IndexByte(line, '<'), strings.LastIndexByte(line, '>')
	if i < 0 || j < i {
		return ""
	}
	return line[i+1 : j]
}
