package testenv

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/xdg-go/scram"
)

// Say makes the hop answer a step with these bytes in place of its own reply,
// until [Hop.SayNothingElse]; with none it breaks off. The steps are CONNECT,
// DOT, and the commands. What begins with 2 or 3 counts as a yes.
func (h *Hop) Say(step, bytes string) { h.mu.Lock(); defer h.mu.Unlock(); h.says[step] = bytes }

// SayNothingElse undoes all [Hop.Say].
func (h *Hop) SayNothingElse() { h.mu.Lock(); defer h.mu.Unlock(); clear(h.says) }

// TLS makes the hop offer STARTTLS.
func (h *Hop) TLS(cfg *tls.Config) { h.mu.Lock(); defer h.mu.Unlock(); h.tls = cfg }

// Login makes the hop take mail only after AUTH with one of the mechanisms.
func (h *Hop) Login(user, password string, mechanisms ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.login = &hopLogin{user, password, mechanisms}
}

// Commands are the command lines that the hop has got so far.
func (h *Hop) Commands() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.commands...)
}

// Connections is how many connections the hop has taken so far.
func (h *Hop) Connections() int { h.mu.Lock(); defer h.mu.Unlock(); return h.accepted }

type hopLogin struct {
	user, password string
	mechanisms     []string
}

// hopSession is one connection to a hop.
type hopSession struct {
	h      *Hop
	c      net.Conn
	r      *bufio.Reader
	m      Message
	secure bool
	known  bool
}

func (s *hopSession) write(format string, a ...any) { fmt.Fprintf(s.c, format+"\r\n", a...) }

// answer gives the reply to a step. It says whether it was a yes, and whether
// the session goes on.
func (s *hopSession) answer(step, normal string) (yes, on bool) {
	s.h.mu.Lock()
	reply, own := s.h.says[step]
	s.h.mu.Unlock()
	if !own {
		reply = normal + "\r\n"
	}
	if reply == "" {
		return false, false
	}
	if _, err := io.WriteString(s.c, reply); err != nil {
		return false, false
	}
	return reply[0] == '2' || reply[0] == '3', true
}

func (s *hopSession) run() {
	if f, _, _ := s.h.state(); f == RefuseConnect {
		return
	}
	s.c.SetDeadline(time.Now().Add(5 * time.Minute))
	s.r = bufio.NewReaderSize(s.c, 64<<10)
	_, on := s.answer("CONNECT", "220 hop.example ESMTP")
	for on {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.h.mu.Lock()
		s.h.commands = append(s.h.commands, line)
		s.h.mu.Unlock()
		verb, arg, _ := strings.Cut(line, " ")
		on = s.step(strings.ToUpper(verb), arg)
	}
}

func (s *hopSession) step(verb, arg string) (on bool) {
	switch verb {
	case "EHLO":
		_, on = s.answer(verb, s.greeting())
	case "HELO":
		_, on = s.answer(verb, "250 hop.example")
	case "STARTTLS":
		return s.startTLS()
	case "AUTH":
		return s.auth(arg)
	case "MAIL":
		return s.mail(arg)
	case "RCPT":
		return s.rcpt(arg)
	case "DATA":
		return s.data()
	case "RSET":
		s.m = Message{}
		_, on = s.answer(verb, "250 2.0.0 ok")
	case "NOOP":
		_, on = s.answer(verb, "250 2.0.0 ok")
	case "QUIT":
		s.answer(verb, "221 2.0.0 bye")
		return false
	default:
		_, on = s.answer(verb, "500 5.5.2 what?")
	}
	return on
}

func (s *hopSession) greeting() string {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	lines := append([]string{"250-hop.example"}, s.h.features...)
	if s.h.tls != nil && !s.secure {
		lines = append(lines, "STARTTLS")
	}
	if s.h.login != nil {
		lines = append(lines, "AUTH "+strings.Join(s.h.login.mechanisms, " "))
	}
	return strings.Join(lines, "\r\n250-") + "\r\n250 HELP"
}

func (s *hopSession) startTLS() bool {
	s.h.mu.Lock()
	cfg := s.h.tls
	s.h.mu.Unlock()
	if cfg == nil || s.secure {
		_, on := s.answer("STARTTLS", "502 5.5.1 not here")
		return on
	}
	yes, on := s.answer("STARTTLS", "220 2.0.0 go ahead")
	if !yes || !on {
		return on
	}
	t := tls.Server(s.c, cfg)
	if t.Handshake() != nil {
		return false
	}
	s.c, s.secure, s.m = t, true, Message{}
	s.r = bufio.NewReaderSize(t, 64<<10)
	return true
}

func (s *hopSession) mail(arg string) bool {
	s.h.mu.Lock()
	login := s.h.login
	s.h.mu.Unlock()
	switch f, _, _ := s.h.state(); {
	case f == DropAtMail:
		return false
	case login != nil && !s.known:
		s.write("530 5.7.0 who are you?")
		return true
	case s.m.From != "" || len(s.m.To) > 0:
		s.write("503 5.5.1 one mail at a time")
		return true
	}
	yes, on := s.answer("MAIL", "250 2.1.0 ok")
	if yes {
		s.m = Message{From: addressIn(arg)}
	}
	return on
}

func (s *hopSession) rcpt(arg string) bool {
	addr := addressIn(arg)
	s.h.mu.Lock()
	code := s.h.refuseRcpt[strings.ToLower(addr)]
	s.h.mu.Unlock()
	if code != 0 {
		s.write("%d %d.1.1 not here", code, code/100)
		return true
	}
	yes, on := s.answer("RCPT", "250 2.1.5 ok")
	if yes {
		s.m.To = append(s.m.To, addr)
	}
	return on
}

func (s *hopSession) data() bool {
	if len(s.m.To) == 0 {
		s.write("503 5.5.1 no recipients")
		return true
	}
	yes, on := s.answer("DATA", "354 go ahead")
	if !yes || !on {
		return on
	}
	var err error
	if s.m.Data, err = readData(s.r); err != nil {
		return false
	}
	m := s.m
	s.m = Message{}
	return s.finish(m)
}

// finish answers the final dot. It says whether the session goes on.
func (s *hopSession) finish(m Message) bool {
	fault, refuse, _ := s.h.state()
	if refuse != 0 {
		s.write("%d %d.7.1 not taken", refuse, refuse/100)
		return refuse != 421
	}
	s.h.mu.Lock()
	s.h.messages = append(s.h.messages, m)
	held := s.h.dot
	s.h.mu.Unlock()
	if held != nil {
		<-held
	}
	switch fault {
	case DropAfterDot:
		return false
	case StopMidReply:
		io.WriteString(s.c, "250 2.0.")
		return false
	case Nonsense:
		s.write("I like mail")
	case HangAfterDot:
		io.Copy(io.Discard, s.c)
		return false
	case HugeReply:
		for range 100_000 {
			if _, err := io.WriteString(s.c, "250-"+strings.Repeat("x", 500)+"\r\n"); err != nil {
				return false
			}
		}
	default:
		_, on := s.answer("DOT", fmt.Sprintf("250 2.0.0 queued as %d", len(m.Data)))
		return on
	}
	return true
}

// auth plays the server's side of AUTH.
func (s *hopSession) auth(arg string) bool {
	s.h.mu.Lock()
	login := s.h.login
	_, own := s.h.says["AUTH"]
	s.h.mu.Unlock()
	mechanism, first, _ := strings.Cut(arg, " ")
	if login == nil || own {
		_, on := s.answer("AUTH", "502 5.5.1 not here")
		return on
	}
	ok := false
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		b, _ := base64.StdEncoding.DecodeString(first)
		ok = string(b) == "\x00"+login.user+"\x00"+login.password
	case "LOGIN":
		ok = s.ask("Username:") == login.user && s.ask("Password:") == login.password
	case "SCRAM-SHA-256":
		ok = s.scram(login, first)
	}
	if !ok {
		s.write("535 5.7.8 no")
		return true
	}
	s.known = true
	s.write("235 2.7.0 welcome")
	return true
}

func (s *hopSession) ask(what string) string {
	s.write("334 %s", base64.StdEncoding.EncodeToString([]byte(what)))
	line, _ := s.r.ReadString('\n')
	b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
	return string(b)
}

func (s *hopSession) scram(login *hopLogin, first string) bool {
	client, err := scram.SHA256.NewClient(login.user, login.password, "")
	if err != nil {
		return false
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt of a test", Iters: 4096})
	if err != nil {
		return false
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return false
	}
	talk := server.NewConversation()
	b, _ := base64.StdEncoding.DecodeString(first)
	for answer := string(b); !talk.Done(); {
		challenge, err := talk.Step(answer)
		if err != nil {
			return false
		}
		answer = s.ask(challenge)
	}
	return talk.Valid()
}
