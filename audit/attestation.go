package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"mailward/internal/pg"
)

// Attestation is what shows that a person did an act. With a signature of their
// passkey nobody who has only the server can have made it up; without one the
// record says so: attested by the server. What the database writes of rows that
// changed says "database": the act that changed them has the same request.
type Attestation struct {
	// Act is the exact text whose SHA-256 was the challenge that was signed.
	Act string
	// CredentialID, PublicKey (COSE), AuthenticatorData, ClientData and Signature
	// are those of WebAuthn §7.2.
	CredentialID, PublicKey, AuthenticatorData, ClientData, Signature []byte
}

type attestationKey struct{}

// WithAttestation notes the signature that the person gave for what is done
// under ctx. It goes into the events of the acts that people sign.
func WithAttestation(ctx context.Context, a *Attestation) context.Context {
	return context.WithValue(ctx, attestationKey{}, a)
}

// AttestationFrom returns what [WithAttestation] noted, or nil: for acts that are
// done after the call that asked for them.
func AttestationFrom(ctx context.Context) *Attestation {
	a, _ := ctx.Value(attestationKey{}).(*Attestation)
	return a
}

// attestable are the acts that people sign: every decision on a request, and where
// one asks or acts alone. What follows from them names them as its cause.
func attestable(action string) bool {
	if strings.HasSuffix(action, ".approve") || strings.HasSuffix(action, ".deny") {
		return true
	}
	switch action {
	case ReleaseRequest, ReleaseExecute, AuditExport, IncidentExport, RawDownload, ViewPart, BulkStart, RoleRequest, RoleGrant, RoleRevoke, RetentionRequest, RetentionExecute,
		LegalHoldAsk, ReleaseRuleAsk, EvidenceRequest, EvidenceExecute, EvidenceDownload:
		return true
	}
	return false
}

// attestationFor is what an event says of its signature: nil where the act is
// none that a person signs.
func attestationFor(ctx context.Context, ev *Event) *Attestation {
	if !attestable(ev.Action) || ev.Actor.Type != pg.ActorUser {
		return nil
	}
	if a, _ := ctx.Value(attestationKey{}).(*Attestation); a != nil {
		return a
	}
	return &Attestation{}
}

// attestation is what an event says of its signature. The text that was signed is that
// of a form, which can name people: it is kept apart.
func (e *encoder) attestation(a *Attestation) any {
	if a == nil {
		return nil
	}
	if len(a.Signature) == 0 {
		return map[string]any{"by": "server"}
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return map[string]any{"by": "passkey", "act": e.commit("attestation.act", a.Act), "credential_id": b64(a.CredentialID), "public_key": b64(a.PublicKey),
		"authenticator_data": b64(a.AuthenticatorData), "client_data": b64(a.ClientData), "signature": b64(a.Signature)}
}

// ReadAttestation reads a signature from the fields of an event, as [Event] has
// written them.
func ReadAttestation(fields map[string]any) (a Attestation, err error) {
	a.Act, _ = fields["act"].(string)
	for name, to := range map[string]*[]byte{"credential_id": &a.CredentialID, "public_key": &a.PublicKey, "authenticator_data": &a.AuthenticatorData,
		"client_data": &a.ClientData, "signature": &a.Signature} {
		text, _ := fields[name].(string)
		if *to, err = base64.RawURLEncoding.DecodeString(text); err != nil || text == "" {
			return Attestation{}, fmt.Errorf("its %s cannot be read", name)
		}
	}
	return a, nil
}
