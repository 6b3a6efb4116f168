package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mailward/audit"
)

const (
	dialLimit  = 10 * time.Second
	writeLimit = 30 * time.Second
	drainEvery = 5 * time.Millisecond
	// settle is how long a new connection is watched before it gets an event. With TLS
	// 1.3 a server refuses our certificate after our handshake is done (RFC 8446 §4.4.2),
	// and a balancer hangs up when nobody is behind it; its TCP would take events all the same.
	settle = time.Second
	// facility is "log audit" (RFC 5424 §6.2.1).
	facility = 13
	// maxSequence is where sequenceId begins again (RFC 5424 §7.3.1).
	maxSequence = 2147483647
)

// DefaultMessage is a bit less than the 8 KiB that rsyslog takes where it is not told
// otherwise, which are 8096 bytes.
const DefaultMessage = 8000

// severities of RFC 5424 §6.2.1.
var severities = map[string]int{"info": 6, "notice": 5, "warning": 4, "critical": 2}

// Syslog sends events over TLS (RFC 5425) as messages of RFC 5424 whose text is
// the event's JSON. The protocol has no receipts: events count as sent when the
// other machine's TCP has acknowledged every byte and the connection still
// stands. What its syslog server loses after that shows as a gap in the numbers.
type Syslog struct {
	Address  string
	TLS      *tls.Config
	Hostname string
	// MaxMessage is how long a message may be; 0: DefaultMessage. What a server
	// takes it has to say itself, and most cut off what is longer: RFC 5425 §4.3.1
	// asks for 8192 bytes.
	MaxMessage int

	mu   sync.Mutex // guards conn, dead
	conn *tls.Conn
	dead chan struct{} // closed when the other side has gone
}

// Name implements [audit.Sink].
func (*Syslog) Name() string { return "syslog" }

// Lock implements [audit.Sink].
func (*Syslog) Lock() int { return audit.LockSyslog }

// Send writes the events, and waits until they have arrived.
func (s *Syslog) Send(ctx context.Context, lines []audit.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.send(ctx, lines)
	if err != nil && s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return err
}

func (s *Syslog) send(ctx context.Context, lines []audit.Line) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, line := range lines {
		msg, err := s.message(line)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%d %s", len(msg), msg) // octet counting, RFC 5425 §4.3.1
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("syslog at %s: %w", s.Address, err)
	}
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return fmt.Errorf("syslog at %s: %w", s.Address, err)
	}
	return s.drain(ctx)
}

func (s *Syslog) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.dead:
			s.conn.Close()
			s.conn = nil
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := (&tls.Dialer{Config: s.TLS}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("syslog at %s: %w", s.Address, err)
	}
	conn, dead := c.(*tls.Conn), make(chan struct{})
	// A syslog server says nothing, so what can be read is its end.
	go func() {
		defer close(dead)
		b := make([]byte, 1)
		for {
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	}()
	s.conn, s.dead = conn, dead
	watch := time.NewTimer(settle)
	defer watch.Stop()
	select {
	case <-dead:
		return fmt.Errorf("syslog at %s hung up at once: does it want a certificate (audit.syslog.cert_file)?", s.Address)
	case <-ctx.Done():
		return ctx.Err()
	case <-watch.C:
		return nil
	}
}

// drain waits until the other side's TCP has taken all that was written.
func (s *Syslog) drain(ctx context.Context) error {
	tcp, ok := s.conn.NetConn().(*net.TCPConn)
	if !ok {
		return errors.New("syslog: not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("syslog at %s: %w", s.Address, err)
	}
	for deadline := time.Now().Add(writeLimit); ; {
		var left int
		var callErr error
		if err := raw.Control(func(fd uintptr) { left, callErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || callErr != nil {
			return fmt.Errorf("syslog at %s: %w", s.Address, errors.Join(err, callErr))
		}
		select {
		case <-s.dead:
			return fmt.Errorf("syslog at %s has hung up", s.Address)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("syslog at %s takes nothing", s.Address)
		}
		time.Sleep(drainEvery)
	}
}

// message is one event (RFC 5424 §6). Its number is in the standard element meta, too.
func (s *Syslog) message(line audit.Line) (string, error) {
	severity, ok := severities[line.Severity]
	if !ok {
		severity = severities["notice"]
	}
	head := fmt.Sprintf("<%d>1 %s %s mailward - %s [meta sequenceId=\"%s\"] \xef\xbb\xbf", facility*8+severity,
		line.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), header(s.Hostname, 255), header(line.Action, 32),
		strconv.FormatInt(line.Seq%maxSequence+1, 10))
	limit := s.MaxMessage
	if limit == 0 {
		limit = DefaultMessage
	}
	body, err := fit(line, limit-len(head), func(fields map[string]any) any { return fields })
	return head + string(body), err
}

// header is a field of the header: printable ASCII, or "-".
func header(v string, most int) string {
	v = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return -1
		}
		return r
	}, v)
	if v == "" {
		return "-"
	}
	return v[:min(len(v), most)]
}

// Close hangs up.
func (s *Syslog) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
