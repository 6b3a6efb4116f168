package channel

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// maxLine keeps a line under what Wazuh's agent takes (65,536 with its head).
const maxLine = 60 << 10

// lineOf is one alert as a JSON object under a key of ours: Wazuh takes some
// names at the top for fields of its own.
func (s *Sender) lineOf(a shownAlert, id uuid.UUID, test bool) ([]byte, error) {
	return json.Marshal(object{"mailward": object{"schema": "gw-alert/1", "notification": id.String(), "host": s.cfg.Hostname, "test": test,
		"time": s.now().UTC().Format(time.RFC3339Nano), "alert": a}})
}

func (s *Sender) linesOf(c Channel, id uuid.UUID, m Message) (lines [][]byte, severities []rule.Severity, err error) {
	list, _ := s.shownAlerts(m, 100)
	if m.Test {
		list = append(list, shownAlert{Alert: Alert{Name: c.Name, Notice: rule.Alarmed, Severity: rule.Info, At: s.now()}, Title: words{"en"}.t("test_text", harmless(c.Name, 100), harmless(m.Note, 100))})
	}
	for _, a := range list {
		b, err := s.lineOf(a, id, m.Test)
		if err == nil && len(b) > maxLine && len(a.Hits) > 0 { // the alarm counts for more than who it is about
			a.Hits = nil
			b, err = s.lineOf(a, id, m.Test)
		}
		if err != nil || len(b) > maxLine {
			return nil, nil, permanent("message cannot be written: it has %d bytes (%v)", len(b), err)
		}
		lines, severities = append(lines, b), append(severities, a.Severity)
	}
	return lines, severities, nil
}

const (
	maxFile  = 50 << 20
	keptOnes = 3
)

// wazuh adds lines to the file that the agent on this machine reads.
func (s *Sender) wazuh(_ context.Context, c Channel, id uuid.UUID, m Message) error {
	if s.cfg.File == "" {
		return permanent("alerts.file is not set on this machine")
	}
	lines, _, err := s.linesOf(c, id, m)
	if err != nil {
		return err
	}
	if i, err := os.Stat(s.cfg.File); err == nil && i.Size() > maxFile {
		if err := rotate(s.cfg.File); err != nil {
			return err
		}
	}
	// One write with O_APPEND: lines of several processes do not mix.
	f, err := os.OpenFile(s.cfg.File, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	var all []byte
	for _, l := range lines {
		all = append(append(all, l...), '\n')
	}
	_, err = f.Write(all)
	return errors.Join(err, f.Sync(), f.Close())
}

// rotate makes room: file.1 is the newest of the old ones. The agent follows.
func rotate(path string) error {
	for i := keptOnes; i > 1; i-- {
		if err := os.Rename(path+"."+strconv.Itoa(i-1), path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// SyslogTarget reads where a syslog channel goes: tls://host:port, tcp://... or udp://...
func SyslogTarget(target string) (network, address string, err error) {
	u, err := url.Parse(target)
	if err != nil || u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.User != nil {
		return "", "", errors.New("must be like tls://logs.example.org:6514")
	}
	if u.Scheme != "tls" && u.Scheme != "tcp" && u.Scheme != "udp" {
		return "", "", errors.New("must begin with tls://, tcp:// or udp://")
	}
	return u.Scheme, u.Host, nil
}

// syslog sends messages of RFC 5424, over TLS (RFC 5425), TCP (RFC 6587, octets
// counted) or UDP (RFC 5426).
func (s *Sender) syslog(ctx context.Context, c Channel, id uuid.UUID, m Message) error {
	network, address, err := SyslogTarget(c.Target)
	if err != nil {
		return permanent("the address %s", err.Error())
	}
	lines, severities, err := s.linesOf(c, id, m)
	if err != nil {
		return err
	}
	conn, err := s.dialSyslog(ctx, network, address)
	if errors.Is(err, errPrivate) {
		return permanent("%s %v", address, errPrivate)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(d); err != nil {
			return err
		}
	}
	for i, line := range lines {
		level := map[rule.Severity]int{rule.Info: 6, rule.Warn: 4, rule.Critical: 2}[severities[i]]
		const local0 = 16 // RFC 5424 §6.2.1
		msg := fmt.Sprintf("<%d>1 %s %s mailward %d alert - %s", local0*8+level, s.now().UTC().Format("2006-01-02T15:04:05.000000Z"), s.cfg.Hostname, os.Getpid(), line)
		if network != "udp" {
			msg = strconv.Itoa(len(msg)) + " " + msg
		}
		if _, err := conn.Write([]byte(msg)); err != nil {
			return temporary("syslog at %s: %v", address, err)
		}
	}
	return nil
}

func (s *Sender) dialSyslog(ctx context.Context, network, address string) (net.Conn, error) {
	d := guardedDialer(s.cfg.AllowPrivate)
	if network != "tls" {
		return d.DialContext(ctx, network, address)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{NetDialer: d, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.cfg.Roots, ServerName: host}}).DialContext(ctx, "tcp", address)
}
