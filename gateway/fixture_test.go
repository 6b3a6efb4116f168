package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/content"
)

// fakeScanner says what the subject of a mail asks it to say.
type fakeScanner struct {
	down atomic.Bool
	from string // what the mails say of their author
}

func (f *fakeScanner) Scan(_ context.Context, job scanner.Job) (policy.Report, *content.Content) {
	head, _ := job.Spool.Header(4096)
	rep := policy.Report{Engines: []policy.EngineAnswer{{Engine: "clamav", Answered: !f.down.Load()}}}
	_, rest, _ := bytes.Cut(head, []byte("Subject: "))
	subject, _, _ := bytes.Cut(rest, []byte("\r\n"))
	rep.Subject, rep.HeaderFrom = string(subject), f.from
	if strings.Contains(rep.Subject, "script") {
		sum := sha256.Sum256(subject)
		rep.Parts = []policy.Part{{Path: "1.2", Name: "run.sh", TrueType: "text/x-shellscript", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(subject))}}
	}
	for _, c := range policy.Classes() {
		if strings.HasPrefix(rep.Subject, string(c)) && c != policy.Clean {
			rep.Findings = append(rep.Findings, policy.Finding{Engine: "clamav", Name: "Test", Class: c, Score: 9, Reason: "test\r\nInjected: header"})
		}
	}
	return rep, nil
}

func (*fakeScanner) Judge(context.Context, scanner.Question, *policy.Report) {}

type fixture struct {
	t       testing.TB
	db      *testenv.DB
	hop     *testenv.Hop
	srv     *Server
	queue   *queue.Queue
	scan    *fakeScanner
	held    *quarantine.Store
	room    *room
	ledger  *ledger.Ledger
	audit   *audit.Log
	addr    string
	analyst pg.Actor
	stop    context.CancelFunc
}

func newFixture(t testing.TB, normalise bool) *fixture {
	t.Helper()
	f := &fixture{t: t, db: testenv.Postgres(t), hop: testenv.NextHop(t), scan: &fakeScanner{}}
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MinFree, cfg.MaxSize, cfg.MemoryLimit, cfg.Normalise = filepath.Join(dir, "spool"), 0, 8<<20, 64<<10, normalise
	sp, err := message.NewSpooler(cfg)
	fatal(t, err)
	key, err := quarantine.OpenLocalKey(filepath.Join(dir, "blob.key"))
	fatal(t, err)
	folder, err := quarantine.NewDir(filepath.Join(dir, "blobs"))
	fatal(t, err)
	f.room = &room{Folder: folder}
	blobs := quarantine.NewBlobsIn(f.room, key)
	f.audit = audit.New(f.db.DB, audit.Options{})
	f.held = quarantine.New(quarantine.Config{KeepFor: 30 * 24 * time.Hour, GiveUpAfter: time.Hour}, f.db.DB, blobs, f.audit, log)
	f.ledger = ledger.New(f.db.DB, log)
	routes := routesTo(f.hop.Addr)
	routes.Domains["other.example"] = "127.0.0.1:1"
	policies := policy.NewStore(f.db.DB, routes, log)
	fatal(t, policies.Load(ctx))
	hops := hop.New(hop.Config{Hostname: "mx.ours.example"})
	f.queue = queue.New(queue.DefaultConfig("mx.ours.example"), queue.Deps{Log: log, DB: f.db.DB, Policies: policies, Ledger: f.ledger, Quarantine: f.held, Audit: f.audit, Hops: hops})
	f.srv, err = New(Config{Hostname: "mx.ours.example", MaxMessageSize: 8 << 20}, Deps{Log: log, DB: f.db.DB, Spooler: sp, Scanner: f.scan, Policies: policies,
		Ledger: f.ledger, Quarantine: f.held, Audit: f.audit, Queue: f.queue, Hops: hops})
	fatal(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	f.addr = l.Addr().String()
	go f.srv.Serve(l)
	_, err = f.db.Admin(t).Exec(ctx, `INSERT INTO setting (key, value) VALUES ('four_eyes', '"single_operator"')`)
	fatal(t, err)
	id := uuid.Must(uuid.NewV7())
	f.analyst = pg.Actor{Type: pg.ActorUser, UserID: id, Email: "soc@ours.example", SessionID: uuid.Must(uuid.NewV7())}
	_, err = f.db.Admin(t).Exec(ctx, "INSERT INTO user_account (id, email) VALUES ($1, 'soc@ours.example')", id)
	fatal(t, err)
	t.Cleanup(func() {
		cancel()
		f.srv.Close()
		f.ledger.Close()
	})
	return f
}

// room is a folder of blobs whose disk can be full.
type room struct {
	quarantine.Folder
	full atomic.Bool
}

func (r *room) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	if r.full.Load() {
		return &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return r.Folder.Put(ctx, name, fill)
}

func routesTo(hop string) policy.StaticRoutes {
	return policy.StaticRoutes{Domains: map[string]string{"ours.example": hop, "sender.example": hop}}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type client struct {
	net.Conn
	r *bufio.Reader
}

func (f *fixture) dial() *client {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	fatal(f.t, err)
	c.SetDeadline(time.Now().Add(time.Minute))
	f.t.Cleanup(func() { c.Close() })
	cl := &client{c, bufio.NewReader(c)}
	cl.reply()
	cl.say("EHLO client.example")
	return cl
}

func (c *client) reply() string {
	var out []string
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(append(out, err.Error()), "\n")
		}
		out = append(out, strings.TrimRight(l, "\r\n"))
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(out, "\n")
		}
	}
}

func (c *client) say(line string) string {
	io.WriteString(c, line+"\r\n")
	return c.reply()
}

func (c *client) send(from string, to []string, msg string) string {
	c.say("MAIL FROM:<" + from + ">")
	for _, a := range to {
		if r := c.say("RCPT TO:<" + a + ">"); !strings.HasPrefix(r, "250") {
			return r
		}
	}
	if r := c.say("DATA"); !strings.HasPrefix(r, "354") {
		return r
	}
	io.WriteString(c, strings.ReplaceAll(msg, "\r\n.", "\r\n..")+".\r\n")
	return c.reply()
}

func (f *fixture) send(subject string, to ...string) string {
	f.t.Helper()
	if len(to) == 0 {
		to = []string{"bob@ours.example"}
	}
	return f.dial().send("erika@sender.example", to, "Subject: "+subject+"\r\n\r\nbody of "+subject+"\r\n")
}

func (f *fixture) wantReply(got string, code int) {
	f.t.Helper()
	if !strings.HasPrefix(got, strconv.Itoa(code)) {
		f.t.Errorf("reply %q, want %d", got, code)
	}
}

func (f *fixture) wantHop(n int) []testenv.Message {
	f.t.Helper()
	m := f.hop.Messages()
	if len(m) != n {
		f.t.Fatalf("%d mails at the next hop, want %d", len(m), n)
	}
	return m
}

func (f *fixture) count(sql string, args ...any) (n int) {
	f.t.Helper()
	fatal(f.t, f.db.Pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (f *fixture) wait(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("no %s", what)
		}
	}
}
