package seal

import (
	"context"
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/audit/proof"
)

// matrix is the installation that each attack meets: some history, of which an
// auditor holds a checkpoint and a second place has every line.
func matrix(t *testing.T) (r *rig, kept Head) {
	t.Helper()
	r = newRig(t)
	r.act(4, audit.Login)
	kept, err := r.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r.act(4, audit.Logout)
	r.seal()
	return r, kept
}

const changeEvent = "UPDATE audit.event SET bytes = replace(convert_from(bytes, 'UTF8'), 'auth.login', 'auth.view ')::bytea WHERE action = 'auth.login'; "

// relabel makes everything in the database fit the changed events: leaves and
// nodes, and the search columns.
const relabel = `UPDATE audit.event SET action = convert_from(bytes, 'UTF8')::jsonb ->> 'action';
	UPDATE audit.leaf l SET leaf_hash = sha256('\x00'::bytea || 'gwa1' || int8send(l.seq) || int8send((extract(epoch FROM e.recorded_at) * 1000000)::bigint) || sha256(e.bytes)) FROM audit.event e WHERE e.id = l.event_id;
	DELETE FROM audit.node; `

// TestMatrix_FlippedByte: the leaf does not fit (mailward audit verify).
func TestMatrix_FlippedByte(t *testing.T) {
	t.Parallel()
	r, _ := matrix(t)
	r.attack(changeEvent)
	if res, err := r.Audit.Verify(context.Background()); err != nil || !strings.Contains(res.Problem, "was changed") {
		t.Errorf("%+v, %v", res, err)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{}); !strings.Contains(rep.Problem, "was changed") || rep.Event == "" {
		t.Errorf("%+v", rep)
	}
}

// TestMatrix_RewrittenDatabase: who makes leaves that fit, too, does not pass the
// sealer, nor a signed checkpoint.
func TestMatrix_RewrittenDatabase(t *testing.T) {
	t.Parallel()
	r, _ := matrix(t)
	r.attack(changeEvent + relabel)
	if res, err := r.Audit.Verify(context.Background()); err != nil || res.Problem != "" {
		t.Fatalf("the database fits with itself again: %+v, %v", res, err)
	}
	r.refused("not those that were signed")
	if v, err := r.VerifyDatabase(context.Background(), ""); err != nil || !strings.Contains(v.Problem, "not those that were signed") {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestMatrix_ResignedHistory: root on the machine has the key too, rewrites all
// of it and signs anew. Only a checkpoint that somebody else holds shows it.
func TestMatrix_ResignedHistory(t *testing.T) {
	t.Parallel()
	r, kept := matrix(t)
	r.attack(changeEvent + relabel + "DELETE FROM audit.anchor; DELETE FROM audit.checkpoint;")
	r.Local = File{filepath.Join(t.TempDir(), "head.json")} // forgotten
	r.seal()
	b := r.bundle(Part{})
	keys, err := r.PublicKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if rep := r.verify(b, proof.Options{Trusted: keys}); rep.Problem != "" {
		t.Fatalf("all that is ours fits: %+v", rep)
	}
	if rep := r.verify(b, proof.Options{Trusted: keys, Earlier: kept.Note}); !strings.Contains(rep.Problem, "not those of the checkpoint that was kept") {
		t.Errorf("%+v", rep)
	}
	if v, err := r.VerifyDatabase(context.Background(), kept.Note); err != nil || !strings.Contains(v.Problem, "not those of the checkpoint that was kept") {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestMatrix_DroppedTail: the sealer's own memory refuses; without it, an
// earlier checkpoint shows what is missing.
func TestMatrix_DroppedTail(t *testing.T) {
	t.Parallel()
	r, kept := matrix(t)
	r.attack("DELETE FROM audit.checkpoint; DELETE FROM audit.event e USING audit.leaf l WHERE l.event_id = e.id AND l.seq > 2; DELETE FROM audit.leaf WHERE seq > 2")
	r.refused("older than its last checkpoint")
	if v, err := r.VerifyDatabase(context.Background(), kept.Note); err != nil || !strings.Contains(v.Problem, "events were taken away") && !strings.Contains(v.Problem, "signed") {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestMatrix_RestoredWithoutSaying: somebody restores an old state and opens a new
// origin to hide it. The bundle says so by itself, and the kept checkpoint names the reason that was given.
func TestMatrix_RestoredWithoutSaying(t *testing.T) {
	t.Parallel()
	r, kept := matrix(t)
	r.attack("DELETE FROM audit.checkpoint; DELETE FROM audit.event e USING audit.leaf l WHERE l.event_id = e.id AND l.seq > 2; DELETE FROM audit.leaf WHERE seq > 2")
	if _, _, err := r.Reanchor(context.Background(), system, "nothing happened"); err != nil {
		t.Fatal(err)
	}
	r.act(100, audit.Login) // more than were taken away, the upgrades' own among them
	rep := r.verify(r.bundle(Part{}), proof.Options{Earlier: kept.Note})
	if !strings.Contains(rep.Problem, "not those of the checkpoint") || !strings.Contains(rep.Problem, "nothing happened") {
		t.Errorf("%+v", rep)
	}
}

// TestMatrix_KeyOfAnother: a checkpoint by a key that nobody was told of is not
// believed where the true key is known.
func TestMatrix_KeyOfAnother(t *testing.T) {
	t.Parallel()
	r, kept := matrix(t)
	keys, err := r.PublicKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_, mine, _ := ed25519.GenerateKey(nil)
	r.Keys = Remote{transit{mine}, "x"}
	r.attack(changeEvent + relabel + "DELETE FROM audit.checkpoint; DELETE FROM audit.seal_key;")
	r.Local = File{filepath.Join(t.TempDir(), "head.json")}
	r.seal()
	b := r.bundle(Part{})
	if rep := r.verify(b, proof.Options{Trusted: keys}); !strings.Contains(rep.Problem, "not signed by a key that you trust") {
		t.Errorf("%+v", rep)
	}
	// Nor by somebody who has nothing but a checkpoint from before.
	if rep := r.verify(b, proof.Options{Earlier: kept.Note}); !strings.Contains(rep.Problem, "somebody else has made this bundle") {
		t.Errorf("%+v", rep)
	}
}

// TestMatrix_ForgedHandOver: a true checkpoint of ours, to which the attacker adds
// a signature of his own, hands nothing over to his key.
func TestMatrix_ForgedHandOver(t *testing.T) {
	t.Parallel()
	r, kept := matrix(t)
	keys, err := r.PublicKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	public, private, _ := ed25519.GenerateKey(nil)
	mine := proof.Key{Algorithm: proof.AlgorithmEd25519, Public: public}
	c, err := proof.Read(kept.Note)
	if err != nil {
		t.Fatal(err)
	}
	own, err := proof.Sign(c, []proof.Key{mine}, func(_ proof.Key, msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil })
	if err != nil {
		t.Fatal(err)
	}
	both := kept.Note + strings.SplitN(own, "\n\n", 2)[1]
	if _, by, err := proof.Open(both, append(keys, mine)); err != nil || len(by) != 2 {
		t.Fatalf("signed by %v, %v", by, err)
	}
	r.attack("UPDATE audit.event SET bytes = replace(convert_from(bytes, 'UTF8'), 'auth.logout', 'auth.login')::bytea WHERE action = 'auth.logout'; " + relabel + "DELETE FROM audit.checkpoint;")
	if _, err := r.db.Admin(t).Exec(context.Background(), "INSERT INTO audit.checkpoint (origin, size, root, note) VALUES ($1, $2, $3, $4)", c.Origin, c.Size, c.Root, both); err != nil {
		t.Fatal(err)
	}
	r.Keys = Remote{transit{private}, "x"}
	r.Local = File{filepath.Join(t.TempDir(), "head.json")}
	r.seal()
	b := r.bundle(Part{})
	for name, opt := range map[string]proof.Options{"the key": {Trusted: keys}, "a checkpoint": {Earlier: kept.Note}} {
		if rep := r.verify(b, opt); !strings.Contains(rep.Problem, "not signed by a key that you trust") {
			t.Errorf("with %s from before: %+v", name, rep)
		}
	}
}

// TestMatrix_ForgedDeletion: who takes events away and notes that their time was over has
// no protocol of it, or one that is about others.
func TestMatrix_ForgedDeletion(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]string{"no protocol": "gen_random_uuid()", "another event": "(SELECT event_id FROM audit.leaf WHERE seq = 0)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := matrix(t)
			r.attack(`INSERT INTO audit.purge (event_id, retention, from_id, end_id, events)
				SELECT ` + event + `, 'sec-400d', '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 4;
				DELETE FROM audit.event WHERE action = 'auth.login'`)
			res, err := r.Audit.Verify(context.Background())
			if err != nil || !strings.Contains(res.Problem, "events are missing, and the protocol") {
				t.Errorf("%+v, %v", res, err)
			}
			if rep := r.verify(r.bundle(Part{}), proof.Options{}); rep.Problem == "" {
				t.Errorf("%+v", rep)
			}
		})
	}
}
