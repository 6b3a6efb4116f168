package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
)

// Target is one thing that an act is about.
type Target struct {
	Type  string
	ID    string
	Label string // no personal value
	PII   string // a personal value (an address), kept apart
}

// Correlation ties an event to others.
type Correlation struct {
	MailID      string
	ItemID      string
	CausationID string // the event that led to this one
}

// Approval is who else agreed to an act.
type Approval struct {
	Mode        string // single_operator or required
	RequestedBy string
	Approvers   []string // user ids
}

// Event is one act, before it becomes bytes.
type Event struct {
	ID            uuid.UUID // set by Append when zero
	Time          time.Time // set by Append when zero
	Workspace     uuid.UUID // zero: the installation
	Action        string
	Phase         string // intent or result; default result
	Outcome       string // success, failure, refused, unknown; default success
	OutcomeCode   string
	OutcomeDetail string
	Severity      string // notice (default), info, warning, critical
	Actor         pg.Actor
	Roles         []string
	Targets       []Target
	Before, After map[string]any
	Reason        string
	ReasonCode    string
	Approval      *Approval
	Correlation   Correlation
	Request       pg.Request // taken from the context when zero
	Retention     string     // default sec-400d
}

type piiValue struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	Salt  string `json:"salt"`
}

// encoder turns one event into its bytes and collects the personal values.
type encoder struct{ pii []piiValue }

// commit replaces a personal value by a commitment to it: SHA-256 over a salt
// of 16 bytes and the value. Without the salt, which goes when the value is
// erased, the value cannot be guessed from the event.
func (e *encoder) commit(path, value string) any {
	if value == "" {
		return nil
	}
	value = clean(value)
	salt := make([]byte, 16)
	rand.Read(salt)
	sum := sha256.Sum256(append(salt, value...))
	e.pii = append(e.pii, piiValue{Path: path, Value: value, Salt: hex.EncodeToString(salt)})
	return map[string]any{"c": "sha256:" + hex.EncodeToString(sum[:]), "ref": "pii:" + path}
}

// clean makes text that PostgreSQL takes: valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// encode makes the canonical bytes: keys sorted, UTF-8, no floating point.
func (ev Event) encode(obs Observer) ([]byte, []piiValue, error) {
	var e encoder
	nonce := make([]byte, 16)
	rand.Read(nonce)
	m := map[string]any{
		"schema": "gw-audit/1", "id": ev.ID.String(), "time": ev.Time.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"nonce": hex.EncodeToString(nonce), "workspace_id": nil, "category": category(ev.Action), "action": ev.Action,
		"phase": ev.Phase, "severity": ev.Severity,
		"outcome":     map[string]any{"result": ev.Outcome, "code": orNil(ev.OutcomeCode), "detail": orNil(clean(ev.OutcomeDetail))},
		"actor":       e.actor(ev),
		"auth":        auth(ev.Actor),
		"source":      e.source(ev.Request),
		"application": map[string]any{"name": orNil(ev.Request.Application), "version": obs.Version},
		"request":     request(ev.Request),
		"targets":     e.targets(ev.Targets),
		"correlation": map[string]any{"mail_id": orNil(ev.Correlation.MailID), "item_id": orNil(ev.Correlation.ItemID), "causation_id": orNil(ev.Correlation.CausationID)},
		"change":      map[string]any{"before": orNilMap(ev.Before), "after": orNilMap(ev.After)},
		"reason":      map[string]any{"text": orNil(clean(ev.Reason)), "code": orNil(ev.ReasonCode)},
		"observer":    map[string]any{"service": "mailward", "instance": obs.Node, "build": obs.Version},
	}
	if ev.Workspace != uuid.Nil {
		m["workspace_id"] = ev.Workspace.String()
	}
	if a := ev.Approval; a != nil {
		m["approval"] = map[string]any{"mode": a.Mode, "requested_by": a.RequestedBy, "approvers": a.Approvers}
	}
	m["class"] = map[string]any{"retention": ev.Retention, "contains_pii": len(e.pii) > 0}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, nil, fmt.Errorf("encode audit event %s: %w", ev.Action, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), e.pii, nil
}

func category(action string) string {
	c, _, _ := strings.Cut(action, ".")
	return c
}

func (e *encoder) actor(ev Event) map[string]any {
	a := ev.Actor
	roles := ev.Roles
	if roles == nil {
		roles = []string{}
	}
	m := map[string]any{"type": string(a.Type), "id": "", "display": clean(a.Display), "roles": roles}
	if a.UserID != uuid.Nil {
		m["id"] = a.UserID.String()
	}
	if a.Email != "" {
		m["email"] = e.commit("actor.email", a.Email)
	}
	if a.Type == pg.ActorSystem {
		m["job"] = map[string]any{"name": a.Job, "trigger": a.Cause}
	}
	return m
}

func auth(a pg.Actor) map[string]any {
	m := map[string]any{"method": orNil(a.AuthMethod), "provider": nil}
	if a.AuthMethod == "password" || a.AuthMethod == "token" {
		m["provider"] = "local"
	}
	if a.SessionID != uuid.Nil {
		m["session_id"] = a.SessionID.String()
	}
	if a.TokenID != uuid.Nil {
		m["credential_id"] = a.TokenID.String()
	}
	return m
}

func (e *encoder) source(r pg.Request) map[string]any {
	m := map[string]any{"ip": nil, "user_agent_class": orNil(r.UserAgentClass)}
	if r.SourceIP.IsValid() {
		m["ip"] = e.commit("source.ip", r.SourceIP.Unmap().String())
	}
	return m
}

func request(r pg.Request) map[string]any {
	m := map[string]any{"id": orNil(r.ID), "method": orNil(r.Method), "path": orNil(r.Path), "status": nil, "duration_ms": r.DurationMS}
	if r.Status != 0 {
		m["status"] = r.Status
	}
	return m
}

func (e *encoder) targets(ts []Target) []any {
	out := []any{}
	for i, t := range ts {
		m := map[string]any{"type": t.Type, "id": t.ID, "label": orNil(clean(t.Label))}
		if t.PII != "" {
			m["value"] = e.commit("targets."+strconv.Itoa(i)+".value", t.PII)
		}
		out = append(out, m)
	}
	return out
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orNilMap(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}

// LeafHash is the leaf of an event in the Merkle tree (RFC 6962 §2.1): the hash
// covers its place, the database's time and its bytes.
func LeafHash(seq int64, recordedAt time.Time, event []byte) [32]byte {
	sum := sha256.Sum256(event)
	b := append([]byte{0}, "gwa1"...)
	b = appendInt64(b, seq)
	b = appendInt64(b, recordedAt.UnixMicro())
	return sha256.Sum256(append(b, sum[:]...))
}

func appendInt64(b []byte, v int64) []byte {
	for i := 56; i >= 0; i -= 8 {
		b = append(b, byte(uint64(v)>>i))
	}
	return b
}
