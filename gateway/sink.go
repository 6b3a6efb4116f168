package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// Sink is a next hop that keeps every mail in a Maildir: for trying Mailward
// out, and for tests. It takes mail for anybody, so it listens on loopback only.
type Sink struct {
	dir  string
	log  *slog.Logger
	smtp *smtp.Server
}

// NewSink prepares the Maildir.
func NewSink(dir string, log *slog.Logger) (*Sink, error) {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make Maildir: %w", err)
		}
	}
	s := &Sink{dir: dir, log: log}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	srv.Domain, srv.MaxLineLength, srv.ReadTimeout, srv.ErrorLog = "sink.localhost", 1<<20, 10*time.Minute, smtpLog{log}
	s.smtp = srv
	return s, nil
}

// Serve takes connections until Close. The listener must be on loopback.
func (s *Sink) Serve(l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		return fmt.Errorf("the sink takes mail for anybody, so it listens on loopback only, not on %s", a)
	}
	if err := s.smtp.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve sink: %w", err)
	}
	return nil
}

// Close ends the sink.
func (s *Sink) Close() { s.smtp.Close() }

type sinkSession struct {
	sink *Sink
	from string
	to   []string
}

func (s *sinkSession) Reset()        { s.from, s.to = "", nil }
func (s *sinkSession) Logout() error { return nil }

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = append(s.to, to); return nil }

// Data writes the mail as a Maildir wants it: in tmp, synced, then moved to new.
func (s *sinkSession) Data(r io.Reader) error {
	name := fmt.Sprintf("%d.%s.sink", time.Now().Unix(), uuid.NewString())
	tmp := filepath.Join(s.sink.dir, "tmp", name)
	err := func() error {
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := fmt.Fprintf(f, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", s.from, strings.Join(s.to, ", ")); err != nil {
			return err
		}
		if _, err := io.Copy(f, r); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return os.Rename(tmp, filepath.Join(s.sink.dir, "new", name))
	}()
	if err != nil {
		os.Remove(tmp)
		s.sink.log.Error("sink: mail not kept", "error", err)
		return say(451, 4, 3, 0, "Mail not kept")
	}
	return say(250, 2, 0, 0, "kept as "+name)
}
