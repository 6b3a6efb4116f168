// Package history remembers whom a workspace has had mail from, and to which
// domains such mail has led before.
//
// On a mail's path the gateway asks it once the sender is checked and the mail
// is read, so that the judges hear whether this is a stranger; and tells it of
// the mail once the decision is on record. It is a reason to look more closely
// and never evidence: what it cannot read counts as unknown, what it cannot
// write is counted later, and a mail waits for neither longer than [lookMost].
//
// An address is anybody's to write. So the history of one is kept apart for
// mail that is shown to be from its domain, and for each network that it comes
// from without proof: who forges a friend's address is a stranger.
package history

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/net/publicsuffix"

	"mailward/internal/pg"
	"mailward/scanner"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	lookSQL  = pg.Query(queryFiles, "look")
	addSQL   = pg.Query(queryFiles, "add")
	sweepSQL = pg.Query(queryFiles, "sweep")
)

const (
	lookMost   = 200 * time.Millisecond // for one question to the database
	writeEvery = 2 * time.Second
	writeLimit = 10 * time.Second
	sweepEvery = 6 * time.Hour
	// keep is how long somebody is remembered who does not write: as long as the ledger.
	keep      = 400 * 24 * time.Hour
	sweepMost = 10_000 // rows at a time

	believed   = 5 * time.Minute // what another process counts is seen this late
	knownMost  = 100_000         // keys that are kept in memory, at about 100 bytes
	waitMost   = 50_000          // keys that wait to be written; while the database is down the rest is not counted
	batchMost  = 5_000           // keys of one statement
	linksAsked = 20              // domains of one mail

	// Before a workspace has been watched for this long and this often, everybody
	// is a stranger, and being one says nothing.
	ripeAfter = 14 * 24 * time.Hour
	ripeMails = 200
	// newFor is how long a domain counts as newly seen: a wave of mail is over by then.
	newFor = 24 * time.Hour
)

// Mail is what is asked and told about.
type Mail struct {
	Workspace uuid.UUID
	From      string // the author's address
	Proven    bool   // SPF or DKIM show that it is from its author's domain
	Client    netip.Addr
	Links     []string // domains that it links to
}

// kind says what a key is about.
type kind byte

const (
	all     kind = 'a' // every mail of the workspace
	sender  kind = 's' // an address, with its proof
	domain  kind = 'd' // the domain of an address
	link    kind = 'l' // a domain that is linked to
	written kind = 'w' // an address that the workspace's people have written to
)

// key is a digest: the table is to name nobody.
type key struct {
	workspace uuid.UUID
	digest    [16]byte
}

func keyOf(workspace uuid.UUID, k kind, parts ...string) key {
	h := sha256.New()
	h.Write(workspace[:])
	h.Write([]byte{byte(k)})
	for _, p := range parts {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return key{workspace, [16]byte(h.Sum(nil))}
}

// keys are those of a mail.
type keys struct {
	all, sender, domain, written key
	links                        []key
}

// address is the author's, in lower case, and the domain that it is registered
// under; both are empty where nobody can be remembered.
func (m Mail) address() (address, host string) {
	address = strings.ToLower(strings.TrimSpace(m.From))
	i := strings.LastIndexByte(address, '@')
	if i < 1 || i == len(address)-1 {
		return "", ""
	}
	return address, registered(address[i+1:])
}

func (m Mail) keys() keys {
	address, host := m.address()
	proof := "proven"
	if !m.Proven {
		proof = network(m.Client)
	}
	k := keys{
		all:    keyOf(m.Workspace, all),
		sender: keyOf(m.Workspace, sender, address, proof), domain: keyOf(m.Workspace, domain, host), written: keyOf(m.Workspace, written, address),
	}
	for _, l := range m.links() {
		k.links = append(k.links, keyOf(m.Workspace, link, l))
	}
	return k
}

// links are the registered domains of the mail's links, each once.
func (m Mail) links() (list []string) {
	for _, l := range m.Links {
		if r := registered(l); !slices.Contains(list, r) {
			if list = append(list, r); len(list) == linksAsked {
				break
			}
		}
	}
	return list
}

func registered(host string) string {
	host = strings.ToLower(host)
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return d
	}
	return host
}

// network is where a mail comes from, as wide as one sender's servers stand.
func network(a netip.Addr) string {
	bits := 24
	if a = a.Unmap(); a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// past is what is known under a key.
type past struct {
	mails, bad int64
	since      time.Time // zero: never seen
	read       time.Time
}

// change is what is to be added to a key.
type change struct {
	mails, bad  int64
	first, last time.Time
}

// Store asks and tells the database. Safe for several goroutines.
type Store struct {
	db  *pg.DB
	log *slog.Logger
	now func() time.Time
	// lookLimit is lookMost; tests that are about something else wait longer.
	lookLimit time.Duration

	mu      sync.Mutex                // guards what follows; never held while the database is asked
	known   *simplelru.LRU[key, past] // owned
	waiting map[key]change            // not yet written
	full    bool                      // said already that no more can wait
}

// New returns a Store. [Store.Run] writes down what it is told.
func New(db *pg.DB, log *slog.Logger) *Store {
	known, err := simplelru.NewLRU[key, past](knownMost, nil)
	if err != nil {
		panic(err) // A size below 1, and it is a constant.
	}
	return &Store{db: db, log: log, now: time.Now, lookLimit: lookMost, known: known, waiting: map[key]change{}}
}

// Look says what the workspace knows of a mail's sender and links. Where the
// database does not answer in time, nothing is known.
func (s *Store) Look(ctx context.Context, m Mail) scanner.History {
	k := m.keys()
	asked := append([]key{k.all, k.sender, k.domain, k.written}, k.links...)
	found, err := s.find(ctx, m.Workspace, asked)
	if err != nil {
		s.log.Warn("history of a sender not read", "error", err)
		return scanner.History{}
	}
	now := s.now()
	total := found[k.all]
	h := scanner.History{
		Ripe:    total.mails >= ripeMails && now.Sub(total.since) >= ripeAfter,
		Sender:  scanner.Past{Mails: found[k.sender].mails, Bad: found[k.sender].bad, Since: found[k.sender].since},
		Domain:  scanner.Past{Mails: found[k.domain].mails, Bad: found[k.domain].bad, Since: found[k.domain].since},
		Written: found[k.written].mails > 0, Proven: m.Proven,
	}
	if address, _ := m.address(); address == "" {
		h.Sender, h.Domain, h.Written = scanner.Past{}, scanner.Past{}, false
	}
	for i, l := range m.links() {
		if p := found[k.links[i]]; p.mails == 0 || now.Sub(p.since) < newFor {
			h.NewLinks = append(h.NewLinks, l)
		}
	}
	return h
}

// find reads keys from memory, and those that are not there from the database.
func (s *Store) find(ctx context.Context, workspace uuid.UUID, asked []key) (map[key]past, error) {
	found, missing := map[key]past{}, [][]byte(nil)
	now := s.now()
	s.mu.Lock()
	for _, k := range asked {
		if p, ok := s.known.Get(k); ok && now.Sub(p.read) < believed {
			found[k] = p
			continue
		}
		missing = append(missing, k.digest[:])
	}
	s.mu.Unlock()
	if len(missing) == 0 {
		return found, nil
	}
	read, err := s.read(ctx, workspace, missing)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range missing {
		k := key{workspace, [16]byte(d)}
		p := read[k]
		if c, ok := s.waiting[k]; ok {
			p = p.plus(c)
		}
		p.read = now
		s.known.Add(k, p)
		found[k] = p
	}
	return found, nil
}

func (p past) plus(c change) past {
	p.mails, p.bad = p.mails+c.mails, p.bad+c.bad
	if p.since.IsZero() || c.first.Before(p.since) {
		p.since = c.first
	}
	return p
}

func (s *Store) read(ctx context.Context, workspace uuid.UUID, digests [][]byte) (map[key]past, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookLimit)
	defer cancel()
	rows, err := s.db.Query(ctx, lookSQL, workspace, digests)
	if err != nil {
		return nil, fmt.Errorf("read history of senders: %w", err)
	}
	defer rows.Close()
	read := map[key]past{}
	for rows.Next() {
		var d []byte
		var p past
		if err := rows.Scan(&d, &p.mails, &p.bad, &p.since); err != nil {
			return nil, fmt.Errorf("read history of senders: %w", err)
		}
		read[key{workspace, [16]byte(d)}] = p
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read history of senders: %w", err)
	}
	return read, nil
}

// Note counts a mail that came in. bad says that it was spam or worse. It does
// not wait.
func (s *Store) Note(m Mail, bad bool) {
	k := m.keys()
	told := append([]key{k.all}, k.links...)
	if address, _ := m.address(); address != "" {
		told = append(told, k.sender, k.domain)
	}
	s.count(told, bad)
}

// Wrote notes whom the workspace's people write to: an answer of theirs is no
// stranger's. It does not wait.
func (s *Store) Wrote(workspace uuid.UUID, recipients []string) {
	var told []key
	for _, r := range recipients {
		if address, _ := (Mail{From: r}).address(); address != "" {
			told = append(told, keyOf(workspace, written, address))
		}
	}
	s.count(told, false)
}

func (s *Store) count(told []key, bad bool) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range told {
		c := change{mails: 1, first: now, last: now}
		if bad {
			c.bad = 1
		}
		if !s.wait(k, c) {
			return
		}
		if p, ok := s.known.Peek(k); ok {
			s.known.Add(k, p.plus(c))
		}
	}
}

// wait adds a change to those that are to be written, if there is room. s.mu is held.
func (s *Store) wait(k key, c change) bool {
	w, ok := s.waiting[k]
	if !ok && len(s.waiting) >= waitMost {
		if !s.full {
			s.full = true
			s.log.Warn("history of senders is not counted: too much waits for the database", "keys", len(s.waiting))
		}
		return false
	}
	if ok {
		c = change{mails: w.mails + c.mails, bad: w.bad + c.bad, first: earlier(w.first, c.first), last: later(w.last, c.last)}
	}
	s.waiting[k] = c
	return true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
