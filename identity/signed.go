package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"mailward/audit"
)

// Act is what a person is about to do, as they sign it: the form that is sent.
type Act struct {
	Path   string              `json:"path"` // of the call, with the object's id
	Fields map[string][]string `json:"fields"`
}

func (a Act) same(b Act) bool {
	return a.Path == b.Path && maps.EqualFunc(a.Fields, b.Fields, func(x, y []string) bool {
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if x[i] != y[i] {
				return false
			}
		}
		return true
	})
}

// signedAct is the text whose SHA-256 the passkey signs. It is stored as it is.
type signedAct struct {
	Act     Act       `json:"act"`
	User    uuid.UUID `json:"user"`
	Session uuid.UUID `json:"session"`
	Time    time.Time `json:"time"`
	Nonce   string    `json:"nonce"`
}

type actStep struct {
	Text     string               `json:"text"`
	WebAuthn webauthn.SessionData `json:"webauthn"`
}

// BeginAct asks for a signature of the person's passkey under an act. The
// challenge is the hash of the act, so that the signature is good for nothing else.
func (s *Store) BeginAct(ctx context.Context, p Principal, act Act) (options any, stepToken string, err error) {
	if s.webauthn == nil {
		return nil, "", ErrNoPasskeys
	}
	h, err := s.holder(ctx, p.User)
	if err != nil {
		return nil, "", err
	}
	if len(h.keys) == 0 || p.SessionID == uuid.Nil {
		return nil, "", ErrNotFound
	}
	text, err := json.Marshal(signedAct{Act: act, User: p.User.ID, Session: p.SessionID, Time: s.now().UTC(), Nonce: rand.Text()})
	if err != nil {
		return nil, "", fmt.Errorf("encode act: %w", err)
	}
	sum := sha256.Sum256(text)
	assertion, session, err := s.webauthn.BeginLogin(h, webauthn.WithChallenge(sum[:]), webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", fmt.Errorf("begin signature: %w", err)
	}
	stepToken, err = s.newStep(ctx, stepAct, step{User: p.User.ID, Session: p.SessionID}, actStep{Text: string(text), WebAuthn: *session})
	return assertion, stepToken, err
}

// SignAct checks the signature under the act that is now to be done. What it
// returns goes into the event of the act ([audit.WithAttestation]).
func (s *Store) SignAct(ctx context.Context, p Principal, stepToken string, act Act, response []byte) (*audit.Attestation, error) {
	if s.webauthn == nil {
		return nil, ErrNoPasskeys
	}
	var kept actStep
	of, err := s.takeStep(ctx, stepAct, stepToken, &kept)
	if err != nil {
		return nil, err
	}
	var told signedAct
	if err := json.Unmarshal([]byte(kept.Text), &told); err != nil {
		return nil, fmt.Errorf("decode act: %w", err)
	}
	if of.User != p.User.ID || of.Session != p.SessionID || !told.Act.same(act) {
		return nil, s.stepUpFailed(ctx, p, "passkey", "other_act", fmt.Errorf("%w: it is for another act", ErrPasskey))
	}
	a, err := s.checkSignature(ctx, p, kept, response)
	if err != nil {
		return nil, s.stepUpFailed(ctx, p, "passkey", "bad_answer", fmt.Errorf("%w: %w", ErrPasskey, err))
	}
	return a, nil
}

func (s *Store) checkSignature(ctx context.Context, p Principal, kept actStep, response []byte) (*audit.Attestation, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, err
	}
	h, err := s.holder(ctx, p.User)
	if err != nil {
		return nil, err
	}
	c, err := s.webauthn.ValidateLogin(h, kept.WebAuthn, parsed)
	if err != nil {
		return nil, err
	}
	if err := s.usedPasskey(ctx, p.User.ID, c); err != nil {
		return nil, err
	}
	raw := parsed.Raw.AssertionResponse
	return &audit.Attestation{Act: kept.Text, CredentialID: c.ID, PublicKey: c.PublicKey, AuthenticatorData: raw.AuthenticatorData,
		ClientData: raw.ClientDataJSON, Signature: raw.Signature}, nil
}

// ConfirmPasskey is a step-up by passkey. It returns the new cookie.
func (s *Store) ConfirmPasskey(ctx context.Context, p Principal, stepToken string, act Act, response []byte) (string, error) {
	if _, err := s.SignAct(ctx, p, stepToken, act, response); err != nil {
		return "", err
	}
	return s.stepUp(ctx, p, "passkey")
}

// VerifySigned checks what an event has under "attestation", as [VerifyAttestation]
// does, and that what was signed is an act of the person of the event.
func VerifySigned(attestation map[string]any, person string) error {
	a, err := audit.ReadAttestation(attestation)
	if err != nil {
		return err
	}
	if err := VerifyAttestation(a); err != nil {
		return err
	}
	var told signedAct
	if err := json.Unmarshal([]byte(a.Act), &told); err != nil || told.User.String() != person {
		return fmt.Errorf("%w: somebody else signed this", ErrPasskey)
	}
	return nil
}

// VerifyAttestation checks a signature without the server that recorded it: that
// the act's hash was the challenge, and that the key signed it (WebAuthn §7.2).
// Whose passkey has that id stands in the event of its making (passkey.create); that
// the key is the passkey's is the server's word.
func VerifyAttestation(a audit.Attestation) error {
	var client struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(a.ClientData, &client); err != nil {
		return fmt.Errorf("%w: client data: %w", ErrPasskey, err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(client.Challenge)
	sum := sha256.Sum256([]byte(a.Act))
	if err != nil || client.Type != "webauthn.get" || !bytes.Equal(challenge, sum[:]) {
		return fmt.Errorf("%w: the signature is not under this act", ErrPasskey)
	}
	key, err := webauthncose.ParsePublicKey(a.PublicKey)
	if err != nil {
		return fmt.Errorf("%w: public key: %w", ErrPasskey, err)
	}
	hash := sha256.Sum256(a.ClientData)
	ok, err := webauthncose.VerifySignature(key, append(bytes.Clone(a.AuthenticatorData), hash[:]...), a.Signature)
	if err != nil || !ok {
		return fmt.Errorf("%w: %w", ErrPasskey, errors.Join(errors.New("the key did not sign this"), err))
	}
	return nil
}
