package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

const (
	// ProofEvery is how often engines prove that they detect.
	ProofEvery = 3 * time.Minute
	// proofOld is when the last proof says nothing any more: no process makes them.
	proofOld = 5 * ProofEvery
)

// Proof is whether an engine has found a test mail's mark, on one node.
type Proof struct {
	Engine, Node string
	TriedAt      time.Time
	Detected     bool
	Answered     bool
	Detail       string
	ProvenAt     time.Time // zero: never
}

// Proofs are the last proofs of all engines and nodes.
type Proofs struct {
	db   *pg.DB
	node string

	mu   sync.Mutex // guards list
	list []Proof
}

// NewProofs returns the proofs of an installation, none yet.
func NewProofs(db *pg.DB, node string) *Proofs { return &Proofs{db: db, node: node} }

var (
	saveProofSQL  = pg.Query(queries, "save_proof")
	loadProofsSQL = pg.Query(queries, "load_proofs")
)

// Keep takes a round of this node in. It counts here at once, also when the
// database does not take it.
func (p *Proofs) Keep(ctx context.Context, round []Proof) error {
	p.mu.Lock()
	for _, x := range round {
		x.Node = p.node
		p.put(x)
	}
	p.mu.Unlock()
	err := p.db.Act(ctx, pg.System("health", "proof of detection"), func(ctx context.Context, tx pgx.Tx) error {
		for _, x := range round {
			if _, err := tx.Exec(ctx, saveProofSQL, x.Engine, p.node, x.TriedAt, x.Detected, x.Answered, x.Detail); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store proofs of detection: %w", err)
	}
	return nil
}

// put needs p.mu.
func (p *Proofs) put(x Proof) {
	for i, old := range p.list {
		if old.Engine == x.Engine && old.Node == x.Node {
			if x.Detected {
				x.ProvenAt = x.TriedAt
			} else if x.ProvenAt.IsZero() {
				x.ProvenAt = old.ProvenAt
			}
			p.list[i] = x
			return
		}
	}
	if x.Detected {
		x.ProvenAt = x.TriedAt
	}
	p.list = append(p.list, x)
}

// Load reads what all nodes have proven.
func (p *Proofs) Load(ctx context.Context) error {
	rows, err := p.db.Query(ctx, loadProofsSQL)
	if err != nil {
		return fmt.Errorf("read proofs of detection: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Proof, err error) {
		var proven *time.Time
		if err = row.Scan(&x.Engine, &x.Node, &x.TriedAt, &x.Detected, &x.Answered, &x.Detail, &proven); proven != nil {
			x.ProvenAt = *proven
		}
		return x, err
	})
	if err != nil {
		return fmt.Errorf("read proofs of detection: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range list {
		if i := p.index(x); i < 0 || p.list[i].TriedAt.Before(x.TriedAt) {
			p.put(x)
		}
	}
	return nil
}

func (p *Proofs) index(x Proof) int {
	for i, old := range p.list {
		if old.Engine == x.Engine && old.Node == x.Node {
			return i
		}
	}
	return -1
}

// Of is the proof of an engine that counts: one that failed lately, on whatever
// node, before one that went well.
func (p *Proofs) Of(engine string, now time.Time) (Proof, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best Proof
	found := false
	for _, x := range p.list {
		if x.Engine != engine || now.Sub(x.TriedAt) > proofOld && found {
			continue
		}
		fresh := now.Sub(x.TriedAt) <= proofOld
		if !found || fresh && (now.Sub(best.TriedAt) > proofOld || best.Detected && !x.Detected || best.Detected == x.Detected && x.TriedAt.After(best.TriedAt)) {
			best, found = x, true
		}
	}
	return best, found
}

// Latest are all proofs that are not old.
func (p *Proofs) Latest(now time.Time) (list []Proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		if now.Sub(x.TriedAt) <= proofOld {
			list = append(list, x)
		}
	}
	return list
}

// Proven is an engine that works only if it has lately found a test mail: one that
// answers and does not detect is as good as none, and looks better.
func Proven(c Component, engine string, of func(engine string, now time.Time) (Proof, bool), now func() time.Time) Component {
	ask := c.Check
	c.Check = func(ctx context.Context) Result {
		r := ask(ctx)
		at := now()
		p, ok := of(engine, at)
		if !ok || r.State == NotConfigured || r.State == Down && r.Code == "switched_off" {
			return r
		}
		if r.Facts == nil {
			r.Facts = map[string]string{}
		}
		if !p.ProvenAt.IsZero() {
			r.Facts["last_proven_at"] = p.ProvenAt.UTC().Format(time.RFC3339)
		}
		if !r.State.Works() {
			return r
		}
		return judgeProof(r, c.titled(), p, at)
	}
	return c
}

func judgeProof(r Result, title string, p Proof, now time.Time) Result {
	switch {
	case now.Sub(p.TriedAt) > proofOld:
		if r.State == Up {
			r.State, r.Code = Degraded, "proof_old"
			r.Reason = say("proof_old", title, span(now.Sub(p.TriedAt)))
		}
	case !p.Detected && p.Answered:
		r.State, r.Code, r.Detail = Down, "not_detecting", p.Node+": "+p.Detail
		last := say("never_found")
		if !p.ProvenAt.IsZero() {
			last = say("last_found", span(now.Sub(p.ProvenAt)))
		}
		r.Reason = say("not_detecting", title).with(last).and("not_detecting.m")
	case !p.Detected && r.State == Up:
		r.State, r.Code, r.Detail = Degraded, "proof_failed", p.Node+": "+p.Detail
		r.Reason = say("proof_failed", title)
	}
	return r
}

// Detection is an engine that has no server to ask: only its proof says anything.
func Detection(name, title string) Component {
	return Component{
		Name: name, Title: title, Group: "engines", Effect: Weakens, Meaning: say("m.detection"),
		Check: func(context.Context) Result {
			return Result{State: Up, Reason: say("runs_always", titled(name, title))}
		},
	}
}
