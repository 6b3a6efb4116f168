package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/policy"
)

// TestHandle_EntriesAndGroups sends mail through the gateway while policies and
// entries change, and looks at what became of it and at what is on record.
func TestHandle_EntriesAndGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	ctx, op, store := context.Background(), pg.Operator("test"), f.srv.deps.Policies
	g, err := store.PutGroup(ctx, op, policy.Group{Name: "Finance", Members: []string{"cfo@ours.example"}})
	fatal(t, err)
	_, err = store.PutPolicy(ctx, op, policy.Policy{Domain: "*", Group: g.ID, Actions: map[policy.Class]policy.Action{policy.Spam: policy.Quarantine}}, nil)
	fatal(t, err)
	f.wantReply(f.send("spam for two", "bob@ours.example", "cfo@ours.example"), 250)
	if m := f.wantHop(1); len(m[0].To) != 1 || m[0].To[0] != "bob@ours.example" {
		t.Errorf("passed on to %v", m[0].To)
	}
	f.wantExplained("spam for two", "the policy of the group Finance says quarantine for spam mail")

	block, err := store.PutEntry(ctx, op, policy.Entry{Kind: policy.EntryBlock, Match: policy.MatchDomain, Value: "sender.example", Action: policy.Reject, Owner: "soc", Reason: "a wave of junk"})
	fatal(t, err)
	f.wantReply(f.send("quite clean"), 550)
	f.wantExplained("quite clean", "the block entry for the sender's domain sender.example (a wave of junk; soc answers for it) says reject")
	fatal(t, store.DeleteEntry(ctx, op, policy.DefaultWorkspace, block.ID, "it is over"))

	// An allow entry for a sender that nothing confirms does not count; one for
	// the client does.
	_, err = store.PutEntry(ctx, op, policy.Entry{Kind: policy.EntryAllow, Match: policy.MatchDomain, Value: "sender.example", Classes: []policy.Class{policy.Phishing}, Owner: "soc", Reason: "our newsletter"})
	fatal(t, err)
	f.wantReply(f.send("phishing, forged"), 250)
	f.wantExplained("phishing, forged", "does not count: neither SPF nor DKIM shows that the mail is from there")
	f.wantHop(1)
	_, err = store.PutEntry(ctx, op, policy.Entry{Kind: policy.EntryAllow, Match: policy.MatchClient, Value: "127.0.0.1", Classes: []policy.Class{policy.Phishing}, Owner: "soc", Reason: "the training platform"})
	fatal(t, err)
	f.wantReply(f.send("phishing for training"), 250)
	f.wantHop(2)
	f.wantReply(f.send("malware stays"), 250)
	f.wantHop(2)
	f.wait("use of the entry on record", func() bool {
		cctx, cancel := context.WithCancel(ctx)
		cancel()
		_ = store.Run(cctx) // its end writes the counts down
		return f.count("SELECT count(*) FROM policy_entry_use WHERE hits > 0") >= 1
	})
}

// wantExplained says that some copy of a mail is explained with these words.
func (f *fixture) wantExplained(subject, words string) {
	f.t.Helper()
	var recipients string
	fatal(f.t, f.db.Pool.QueryRow(context.Background(), "SELECT recipients::text FROM mail WHERE subject = $1", subject).Scan(&recipients))
	if !strings.Contains(recipients, words) {
		f.t.Errorf("%q is not explained with %q: %s", subject, words, recipients)
	}
}

func TestHandle_SilentEngineByPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.scan.down.Store(true)
	f.wantReply(f.send("clean"), 451)
	_, err := f.srv.deps.Policies.PutPolicy(context.Background(), pg.Operator("test"), policy.Policy{Domain: "ours.example", EngineFailure: map[string]policy.Action{"clamav": policy.Quarantine}}, nil)
	fatal(t, err)
	f.wantReply(f.send("clean too"), 250)
	f.wantHop(0)
	if n := f.count("SELECT count(*) FROM quarantine_item"); n != 1 {
		t.Errorf("%d mails kept", n)
	}
	f.wantExplained("clean too", "no answer from clamav; the policy of ours.example says quarantine")
	if id := f.srv.deps.Policies.Entries(uuid.New()); id != nil {
		t.Error("entries of a workspace that is not there")
	}
}
