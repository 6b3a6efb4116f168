package audit

import (
	"testing"

	"mailward/internal/pg"
)

// TestAttestable: whatever waits for a second person is signed by that person, also
// a kind of request that is new; what follows from it is not.
func TestAttestable(t *testing.T) {
	t.Parallel()
	person := pg.Actor{Type: pg.ActorUser}
	ctx := WithAttestation(t.Context(), &Attestation{Signature: []byte("s")})
	for action, want := range map[string]bool{
		ReleaseApprove: true, LegalHoldApprove: true, LegalHoldDeny: true, ReleaseRuleApprove: true, ReleaseRuleDeny: true, RoleDeny: true,
		EvidenceApprove: true, RetentionApprove: true, BulkStart: true, LegalHoldLift: false, PageView: false,
	} {
		if got := attestationFor(ctx, &Event{Action: action, Actor: person}); (got != nil) != want || want && string(got.Signature) != "s" {
			t.Errorf("%s: %+v", action, got)
		}
	}
	if got := attestationFor(ctx, &Event{Action: ReleaseApprove, Actor: pg.System("x", "y")}); got != nil {
		t.Errorf("the system signs: %+v", got)
	}
	if got := attestationFor(t.Context(), &Event{Action: LegalHoldDeny, Actor: person}); got == nil || len(got.Signature) != 0 {
		t.Errorf("without a passkey the server attests: %+v", got)
	}
}
