package gateway

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDialog plays the files of testdata/dialog against the edge:
//
//	-> a line that the client says        => "quoted bytes" as they are; then N "again" repeats
//	<- how the next reply begins, or EOF  =  what the last reply must have in it
//	hop "the mail as it ends at the hop"  with PROTOCOL in our Received line
//	said a command that the hop has heard
//	! lmtp, or ! features X Y of the hop, before anything is said
func TestDialog(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/dialog/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			fatal(t, err)
			d := &dialog{fixture: newFixture(t, false), t: t}
			d.hop.RefuseRcpt("Full@ours.example", 452)
			d.hop.RefuseRcpt("gone@ours.example", 550)
			for i, line := range strings.Split(string(b), "\n") {
				d.where = file + ":" + strconv.Itoa(i+1)
				d.play(line)
			}
		})
	}
}

type dialog struct {
	*fixture
	t     *testing.T
	where string
	c     *client
	last  string
	lmtp  bool
}

func (d *dialog) play(line string) {
	d.t.Helper()
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "", "#":
	case "!":
		d.prepare(strings.Fields(arg))
	case "->":
		io.WriteString(d.client(), arg+"\r\n")
	case "=>":
		d.raw(arg)
	case "<-":
		if d.last = d.client().reply(); !strings.HasPrefix(d.last, arg) {
			d.t.Fatalf("%s: %q, want %s", d.where, d.last, arg)
		}
	case "=":
		if !strings.Contains(d.last, arg) {
			d.t.Errorf("%s: %q lacks %s", d.where, d.last, arg)
		}
	case "hop":
		want, err := strconv.Unquote(arg)
		fatal(d.t, err)
		m := d.hop.Messages()
		if len(m) == 0 || !bytes.HasSuffix(m[len(m)-1].Data, []byte(want)) {
			d.t.Fatalf("%s: the hop has %d mails, the last one is not as it should be", d.where, len(m))
		}
	case "said":
		if !slices.Contains(d.hop.Commands(), arg) {
			d.t.Errorf("%s: the hop has heard\n%s", d.where, strings.Join(d.hop.Commands(), "\n"))
		}
	case "with":
		m := d.hop.Messages()
		if !strings.Contains(string(m[len(m)-1].Data), " with "+arg+" id ") {
			d.t.Errorf("%s: %s", d.where, m[len(m)-1].Data)
		}
	default:
		d.t.Fatalf("%s: %q is no line of a dialog", d.where, line)
	}
}

func (d *dialog) prepare(words []string) {
	switch words[0] {
	case "lmtp":
		d.lmtp = true
	case "features":
		d.hop.Features(append([]string{"PIPELINING", "8BITMIME", "SIZE 104857600"}, words[1:]...)...)
		// What a route can carry is learned by asking it, as the health check does.
		for _, route := range d.srv.deps.Policies.NextHops() {
			if route == "127.0.0.1:1" {
				continue
			}
			_, err := d.srv.deps.Hops.Check(context.Background(), route)
			fatal(d.t, err)
		}
		d.srv.deps.Policies.SetStatic(routesTo(d.hop.Addr))
	}
}

// client connects when it is first needed. An SMTP client says EHLO by itself,
// an LMTP client does not.
func (d *dialog) client() *client {
	if d.c != nil {
		return d.c
	}
	if !d.lmtp {
		d.c = d.dial()
		return d.c
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(d.t, err)
	go d.srv.ServeLMTP(l)
	c, err := net.Dial("tcp", l.Addr().String())
	fatal(d.t, err)
	d.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	d.c = &client{c, bufio.NewReader(c)}
	if r := d.c.reply(); !strings.HasPrefix(r, "220") || !strings.Contains(r, "LMTP") {
		d.t.Fatalf("greeting: %q", r)
	}
	return d.c
}

func (d *dialog) raw(arg string) {
	first, err := strconv.QuotedPrefix(arg)
	fatal(d.t, err)
	rest := strings.TrimSpace(arg[len(first):])
	s, err := strconv.Unquote(first)
	fatal(d.t, err)
	if n, again, ok := strings.Cut(rest, " "); ok {
		times, err := strconv.Atoi(n)
		fatal(d.t, err)
		piece, err := strconv.Unquote(again)
		fatal(d.t, err)
		s += strings.Repeat(piece, times)
	}
	io.WriteString(d.client(), s)
}
