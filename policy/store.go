package policy

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	domainsSQL      = pg.Query(queryFiles, "domains")
	policiesSQL     = pg.Query(queryFiles, "policies")
	insertDomainSQL = pg.Query(queryFiles, "insert_domain")
	deleteDomainSQL = pg.Query(queryFiles, "delete_domain")
	updatePolicySQL = pg.Query(queryFiles, "update_policy")
	insertPolicySQL = pg.Query(queryFiles, "insert_policy")
	deletePolicySQL = pg.Query(queryFiles, "delete_policy")
	lockPolicySQL   = pg.Query(queryFiles, "lock_policy")
	updateDomainSQL = pg.Query(queryFiles, "update_domain")
)

// Errors of the store.
var (
	ErrNotFound = errors.New("policy: not found")
	ErrExists   = errors.New("policy: domain exists already")
	// ErrConflict means that somebody else changed it since it was read.
	ErrConflict = errors.New("policy: changed by somebody else in the meantime")
	// ErrStatic means that the domain stands in the configuration file.
	ErrStatic = errors.New("policy: the domain is set in the configuration file")
)

// InvalidError says what is wrong with what a person gave, in words for them.
type InvalidError struct{ Field, Problem string }

func (e *InvalidError) Error() string { return e.Field + " " + e.Problem }

// pollEvery bounds how old the snapshot gets when a notification was lost.
const pollEvery = 5 * time.Second

// StaticRoutes are the domains of the configuration file.
type StaticRoutes struct {
	Default  string            // next hop of domains without one of their own
	Domains  map[string]string // name -> next hop, "" for the default
	Names    []string          // of the routes that a next hop may name
	Outbound string            // route of mail to the rest of the world; "mx": to each domain's own MX; "": none
}

// snapshot is what a mail's decision reads. It is never changed, only replaced.
type snapshot struct {
	domains  map[string]Domain
	policies map[policyKey]Policy
	groups   map[uuid.UUID]*groupIndex // by workspace
	entries  map[uuid.UUID][]Entry     // by workspace; also those that have ended
	sets     map[uuid.UUID]*EntrySet   // of what is in force
	ends     time.Time                 // when the next entry ends; zero: never
	measures []*Measure
	at       time.Time
}

type policyKey struct {
	workspace uuid.UUID
	domain    string
	group     uuid.UUID
	direction Direction
}

func (p Policy) key() policyKey { return policyKey{p.Workspace, p.Domain, p.Group, p.Direction} }

// nextHops is a list of next hops and what it was made from.
type nextHops struct {
	static *StaticRoutes
	snap   *snapshot
	list   []string
}

// Store keeps domains and policies, and a snapshot of them in memory.
type Store struct {
	db     *pg.DB
	static atomic.Pointer[StaticRoutes]
	log    *slog.Logger
	now    func() time.Time
	snap   atomic.Pointer[snapshot]
	hops   atomic.Pointer[nextHops] // the last list, made anew when its sources change
	served atomic.Pointer[served]   // likewise
	uses   uses

	touches touches
}

// NewStore returns a Store that knows nothing until [Store.Load] or [Store.Run].
func NewStore(db *pg.DB, static StaticRoutes, log *slog.Logger) *Store {
	s := &Store{db: db, log: log, now: time.Now, touches: newTouches()}
	s.SetStatic(static)
	return s
}

// SetStatic replaces the domains of the configuration file, at a reload.
func (s *Store) SetStatic(r StaticRoutes) {
	clean := StaticRoutes{Default: r.Default, Outbound: r.Outbound, Domains: map[string]string{}, Names: r.Names}
	for name, hop := range r.Domains {
		clean.Domains[strings.ToLower(name)] = hop
	}
	s.static.Store(&clean)
}

// Ready says whether a snapshot is there.
func (s *Store) Ready() bool { return s.snap.Load() != nil }

// Age is how old the snapshot is: with the database away, the last one stays in use.
func (s *Store) Age() time.Duration {
	if p := s.snap.Load(); p != nil {
		return s.now().Sub(p.at)
	}
	return 0
}

// Run keeps the snapshot fresh: at once when the database says that something
// changed, every few seconds otherwise. It returns when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() { s.db.Listen(ctx, "mailward_policy", changed) })
	defer listening.Wait()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		s.saveTouches(ctx, false)
		if err := s.Load(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("policies not read, the last ones stay in force", "age", s.Age().String(), "error", err)
		}
		if !s.stale(ctx, changed, t.C) {
			s.saveUses(context.WithoutCancel(ctx))
			s.saveTouches(context.WithoutCancel(ctx), true)
			return nil
		}
	}
}

// stale waits until the snapshot is to be read anew; false: ctx has ended. Mails
// that reactions touch are collected for a while first.
func (s *Store) stale(ctx context.Context, changed <-chan struct{}, tick <-chan time.Time) bool {
	var save <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			s.saveUses(ctx)
			return true
		case <-changed:
			return true
		case <-s.touches.signal:
			if save == nil {
				save = time.After(saveTouchesAfter)
			}
		case <-save:
			return true
		}
	}
}

// Load reads a new snapshot.
func (s *Store) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	domains, err := s.dbDomains(ctx)
	if err != nil {
		return err
	}
	policies, err := s.Policies(ctx)
	if err != nil {
		return err
	}
	groups, err := s.allGroups(ctx)
	if err != nil {
		return err
	}
	entries, err := s.entriesInForce(ctx)
	if err != nil {
		return err
	}
	measures, err := s.measuresInForce(ctx)
	if err != nil {
		return err
	}
	snap := &snapshot{domains: map[string]Domain{}, policies: map[policyKey]Policy{}, groups: map[uuid.UUID]*groupIndex{}, measures: measures, at: s.now()}
	for _, d := range domains {
		snap.domains[d.Name] = d
	}
	for _, p := range policies {
		snap.policies[p.key()] = p
	}
	for w, list := range byWorkspace(groups, func(g Group) uuid.UUID { return g.Workspace }) {
		snap.groups[w] = indexGroups(list)
	}
	snap.setEntries(byWorkspace(entries, func(e Entry) uuid.UUID { return e.Workspace }), s.now())
	s.publish(snap)
	return nil
}

func byWorkspace[T any](list []T, of func(T) uuid.UUID) map[uuid.UUID][]T {
	m := map[uuid.UUID][]T{}
	for _, t := range list {
		m[of(t)] = append(m[of(t)], t)
	}
	return m
}

// Lookup finds the domain and policy of a recipient. It reads memory only.
// False means that we take no mail for this address. The configuration file
// wins over the database; no subdomain is served that is not listed.
func (s *Store) Lookup(address string) (Recipient, bool) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return Recipient{}, false
	}
	name, err := NormaliseDomain(address[i+1:])
	if err != nil {
		return Recipient{}, false
	}
	snap, static := s.snap.Load(), s.static.Load()
	if snap == nil {
		return Recipient{}, false
	}
	d, ok := snap.domains[name]
	if hop, fixed := static.Domains[name]; fixed {
		if !ok {
			d = Domain{Workspace: DefaultWorkspace, Name: name}
		}
		d.NextHop, d.Source, d.Enabled, ok = hop, "config", true, true
	}
	if !ok || !d.Enabled {
		return Recipient{}, false
	}
	if d.NextHop == "" {
		d.NextHop = static.Default
	}
	r := Recipient{Address: address, Direction: Inbound, Domain: d, Ours: d.Name}
	r.Policy, r.Groups = snap.policyFor(d, Inbound, address)
	return r, true
}

// Outbound finds route and policy for mail that leaves: the policy is that of
// the sender's domain. A sender that is none of ours, also the null sender, has
// the default workspace's. False means that there is no such way out: no
// outbound route is set, or the address is no name in the DNS.
func (s *Store) Outbound(sender, to string) (Recipient, bool) {
	snap, route := s.snap.Load(), s.static.Load().Outbound
	i := strings.LastIndexByte(to, '@')
	if snap == nil || route == "" || i < 1 {
		return Recipient{}, false
	}
	name, err := NormaliseDomain(to[i+1:])
	if err != nil {
		return Recipient{}, false
	}
	if route == "mx" {
		route = "mx:" + name
	}
	from := Domain{Workspace: DefaultWorkspace, Name: "*"}
	if r, ok := s.Lookup(sender); ok {
		from = r.Domain
	}
	r := Recipient{Address: to, Direction: Outbound, Ours: from.Name, Domain: Domain{Workspace: from.Workspace, Name: name, NextHop: route, Enabled: true}}
	r.Policy, r.Groups = snap.policyFor(from, Outbound, sender)
	return r, true
}

// Route is where mail to an address goes that is on its way already: to the
// next hop of its domain, or else out. "" is nowhere.
func (s *Store) Route(to string) string {
	if r, ok := s.Lookup(to); ok {
		return r.Domain.NextHop
	}
	if r, ok := s.Outbound("", to); ok {
		return r.Domain.NextHop
	}
	return s.DefaultHop()
}

// policyFor puts the layers for an address of ours into one policy, and lists
// the groups that it is in. Without an address it is the domain's alone.
func (s *snapshot) policyFor(d Domain, dir Direction, address string) (Policy, []uuid.UUID) {
	layers := []layer{{Policy: s.policies[policyKey{d.Workspace, "*", uuid.Nil, dir}]}}
	if d.Name != "*" {
		layers = append(layers, layer{Policy: s.policies[policyKey{d.Workspace, d.Name, uuid.Nil, dir}]})
	}
	var ids []uuid.UUID
	for _, g := range s.groups[d.Workspace].of(address) {
		ids = append(ids, g.ID)
		layers = append(layers, layer{s.policies[policyKey{d.Workspace, "*", g.ID, dir}], g.Name})
	}
	return layered(dir, layers...), ids
}

// Postmaster names a domain for the recipient `postmaster` without one (RFC
// 5321 §4.5.1): the first that we serve.
func (s *Store) Postmaster() (Recipient, bool) {
	names := slices.Sorted(maps.Keys(s.static.Load().Domains))
	if snap := s.snap.Load(); snap != nil {
		names = append(names, slices.Sorted(maps.Keys(snap.domains))...)
	}
	for _, n := range names {
		if r, ok := s.Lookup("postmaster@" + n); ok {
			return r, true
		}
	}
	return Recipient{}, false
}

// DefaultHop is where mail goes that is for none of our domains: notifications
// to senders. It may be empty.
func (s *Store) DefaultHop() string { return s.static.Load().Default }

// NextHops lists every next hop that is in use. The list is shared: every EHLO
// asks for it. It is not to be changed.
func (s *Store) NextHops() []string {
	static, snap := s.static.Load(), s.snap.Load()
	if last := s.hops.Load(); last != nil && last.static == static && last.snap == snap {
		return last.list
	}
	made := &nextHops{static: static, snap: snap, list: hopsOf(static, snap)}
	s.hops.Store(made)
	return made.list
}

func hopsOf(static *StaticRoutes, snap *snapshot) []string {
	hops := map[string]bool{}
	add := func(h string) {
		if h == "" {
			h = static.Default
		}
		if h != "" {
			hops[h] = true
		}
	}
	for _, h := range static.Domains {
		add(h)
	}
	if static.Outbound != "" && static.Outbound != "mx" {
		add(static.Outbound)
	}
	if snap != nil {
		for n, d := range snap.domains {
			if _, fixed := static.Domains[n]; !fixed && d.Enabled {
				add(d.NextHop)
			}
		}
	}
	return slices.Sorted(maps.Keys(hops))
}

// Domains lists the domains that we serve, from the file and the database.
func (s *Store) Domains(ctx context.Context) ([]Domain, error) {
	list, err := s.dbDomains(ctx)
	if err != nil {
		return nil, err
	}
	static := s.static.Load()
	at := map[string]int{}
	for i := range list {
		at[list[i].Name] = i
	}
	for _, name := range slices.Sorted(maps.Keys(static.Domains)) {
		if i, ok := at[name]; ok {
			list[i].NextHop, list[i].Source, list[i].Enabled = static.Domains[name], "config", true
			continue
		}
		list = append(list, Domain{Workspace: DefaultWorkspace, Name: name, NextHop: static.Domains[name], Source: "config", Enabled: true})
	}
	slices.SortFunc(list, func(a, b Domain) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Store) dbDomains(ctx context.Context) ([]Domain, error) {
	rows, err := s.db.Query(ctx, domainsSQL)
	if err != nil {
		return nil, fmt.Errorf("read domains: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Domain, err error) {
		d.Source = "database"
		err = row.Scan(&d.ID, &d.Workspace, &d.Name, &d.NextHop, &d.Enabled, &d.Version, &d.CreatedAt)
		return d, err
	})
}

// NewDomain is a domain that somebody wants to add.
type NewDomain struct {
	Workspace uuid.UUID // zero: the default one
	Name      string
	NextHop   string // empty: the configured default
}

// CreateDomain adds a domain. Mail for it is taken from then on.
func (s *Store) CreateDomain(ctx context.Context, actor pg.Actor, n NewDomain) (Domain, error) {
	name, err := NormaliseDomain(n.Name)
	if err != nil {
		return Domain{}, err
	}
	static := s.static.Load()
	if err := CheckNextHop(n.NextHop, static.Names...); err != nil {
		return Domain{}, err
	}
	if n.NextHop == "" && static.Default == "" {
		return Domain{}, &InvalidError{"next_hop", "is needed, since no default next hop is configured"}
	}
	if _, fixed := static.Domains[name]; fixed {
		return Domain{}, ErrStatic
	}
	if n.Workspace == uuid.Nil {
		n.Workspace = DefaultWorkspace
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Domain{}, fmt.Errorf("make domain id: %w", err)
	}
	d := Domain{ID: id, Workspace: n.Workspace, Name: name, NextHop: n.NextHop, Source: "database", Enabled: true, Version: 1}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, insertDomainSQL, d.ID, d.Workspace, d.Name, d.NextHop).Scan(&d.CreatedAt)
	})
	if pg.IsUnique(err, "domain_name_idx") {
		return Domain{}, ErrExists
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return Domain{}, &InvalidError{"workspace_id", "is archived, or there is no such workspace"}
	}
	if err != nil {
		return Domain{}, fmt.Errorf("create domain %s: %w", name, err)
	}
	return d, s.Load(ctx)
}

// SetNextHop changes where a domain's mail goes. version is the one that the
// caller has read.
func (s *Store) SetNextHop(ctx context.Context, actor pg.Actor, name, hop string, version int64) error {
	name, err := NormaliseDomain(name)
	if err != nil {
		return ErrNotFound
	}
	static := s.static.Load()
	if err := CheckNextHop(hop, static.Names...); err != nil {
		return err
	}
	if hop == "" && static.Default == "" {
		return &InvalidError{"next_hop", "is needed, since no default next hop is configured"}
	}
	if _, fixed := static.Domains[name]; fixed {
		return ErrStatic
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, updateDomainSQL, name, hop, version)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("change domain %s: %w", name, err)
	}
	return s.Load(ctx)
}

// DeleteDomain ends our service for a domain.
func (s *Store) DeleteDomain(ctx context.Context, actor pg.Actor, name string) error {
	name, err := NormaliseDomain(name)
	if err != nil {
		return ErrNotFound
	}
	if _, fixed := s.static.Load().Domains[name]; fixed {
		return ErrStatic
	}
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteDomainSQL, name)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete domain %s: %w", name, err)
	}
	return s.Load(ctx)
}
