package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
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

// Personal is a personal value inside Before or After. It is kept apart: the
// event's bytes hold only a commitment to it.
type Personal string

// Correlation ties an event to others.
type Correlation struct {
	MailID      string
	ItemID      string
	CausationID string // the event that led to this one
	IncidentID  string
	AlertID     string
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
	// DetailNames says that the detail can name people, as the answer of another
	// server does: then it is kept apart like a personal value.
	DetailNames   bool
	Severity      string // notice (default), info, warning, critical
	Actor         pg.Actor
	Roles         []string
	Targets       []Target
	Before, After map[string]any
	Reason        string
	ReasonCode    string
	Ticket        string // in another system, that asks for the act
	LegalBasis    string
	Emergency     bool  // the usual way was skipped
	ObjectVersion int64 // of what was changed
	Approval      *Approval
	Correlation   Correlation
	Request       pg.Request // taken from the context when zero
	Retention     string     // default sec-400d

	// Attestation says by what it can be shown that the person did it. Taken from
	// the context when nil, for acts that people sign.
	Attestation *Attestation
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
func clean(s string) string { return pg.Text(s) }

// encoded is an event as it goes to the database. A retry sends the very same
// bytes, so that it is known as one.
type encoded struct {
	id     uuid.UUID
	action string
	bytes  []byte
	pii    string // JSON for audit.append
}

// encode makes the canonical bytes: keys sorted, UTF-8, as Go's encoder writes them. They are made once and never again.
func (ev Event) encode(obs Observer, clock any) (encoded, error) {
	var e encoder
	nonce := make([]byte, 16)
	rand.Read(nonce)
	m := map[string]any{
		"schema": "gw-audit/1", "id": ev.ID.String(), "time": stamp(ev.Time), "clock": clock,
		"nonce": hex.EncodeToString(nonce), "workspace_id": nil, "category": category(ev.Action), "action": ev.Action,
		"phase": ev.Phase, "severity": ev.Severity,
		"outcome":     map[string]any{"result": ev.Outcome, "code": orNil(ev.OutcomeCode), "detail": e.detail(ev)},
		"actor":       e.actor(ev),
		"auth":        auth(ev.Actor),
		"source":      e.source(ev.Request),
		"application": map[string]any{"name": orNil(ev.Request.Application), "version": orNil(obs.Version), "client_id": orNil(ev.Request.ClientID)},
		"request":     request(ev.Request),
		"targets":     e.targets(ev.Targets),
		"correlation": map[string]any{"trace_id": orNil(ev.Request.TraceID), "incident_id": orNil(ev.Correlation.IncidentID), "alert_id": orNil(ev.Correlation.AlertID),
			"mail_id": orNil(ev.Correlation.MailID), "item_id": orNil(ev.Correlation.ItemID), "causation_id": orNil(ev.Correlation.CausationID)},
		"change":   e.change(ev),
		"reason":   map[string]any{"text": orNil(ev.Reason), "code": orNil(ev.ReasonCode), "ticket": orNil(ev.Ticket), "legal_basis": orNil(ev.LegalBasis), "emergency": ev.Emergency},
		"approval": approval(ev), "attestation": e.attestation(ev.Attestation),
		"observer": map[string]any{"service": "mailward", "instance": orNil(obs.Node), "build": orNil(obs.Version), "host_id": orNil(hostID())},
	}
	if ev.Workspace != uuid.Nil {
		m["workspace_id"] = ev.Workspace.String()
	}
	m["class"] = map[string]any{"retention": ev.Retention, "contains_pii": len(e.pii) > 0, "tlp": "AMBER"}
	b, err := appendJSON(make([]byte, 0, 2048), m)
	if err != nil {
		return encoded{}, fmt.Errorf("encode audit event %s: %w", ev.Action, err)
	}
	pii, err := json.Marshal(append([]piiValue{}, e.pii...))
	if err != nil {
		return encoded{}, fmt.Errorf("encode personal values of %s: %w", ev.Action, err)
	}
	return encoded{id: ev.ID, action: ev.Action, bytes: b, pii: string(pii)}, nil
}

// change holds the values before and after, and the names of those that differ.
func (e *encoder) change(ev Event) map[string]any {
	diff := []string{}
	for k := range ev.Before {
		if after, ok := ev.After[k]; !ok || !reflect.DeepEqual(ev.Before[k], after) {
			diff = append(diff, k)
		}
	}
	for k := range ev.After {
		if _, ok := ev.Before[k]; !ok {
			diff = append(diff, k)
		}
	}
	slices.Sort(diff)
	before, after := e.values("change.before", ev.Before), e.values("change.after", ev.After)
	m := map[string]any{"before": before, "after": after, "diff": diff, "before_sha256": hashOf(before), "after_sha256": hashOf(after), "object_version": nil}
	if ev.ObjectVersion != 0 {
		m["object_version"] = ev.ObjectVersion
	}
	return m
}

// values replaces the personal values of a map by commitments, and makes its
// text what PostgreSQL takes.
func (e *encoder) values(path string, m map[string]any) any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		switch v := m[k].(type) {
		case Personal:
			out[k] = e.commit(path+"."+k, string(v))
		case string:
			out[k] = clean(v)
		case map[string]any:
			out[k] = e.values(path+"."+k, v)
		default:
			out[k] = v
		}
	}
	return out
}

func category(action string) string {
	c, _, _ := strings.Cut(action, ".")
	return c
}

func (e *encoder) detail(ev Event) any {
	if ev.DetailNames {
		return e.commit("outcome.detail", ev.OutcomeDetail)
	}
	return orNil(ev.OutcomeDetail)
}

// actor is who acts. Of a person the bytes have the id, and the address among the
// values that can be erased; the name is not in them.
func (e *encoder) actor(ev Event) map[string]any {
	a := ev.Actor
	if a.Type == pg.ActorUser {
		a.Display = ""
	}
	m := map[string]any{"type": string(a.Type), "id": "", "display": clean(a.Display), "roles": append([]string{}, ev.Roles...),
		"email": e.commit("actor.email", a.Email), "on_behalf_of": nil, "job": nil}
	if a.UserID != uuid.Nil {
		m["id"] = a.UserID.String()
	}
	if a.Type == pg.ActorSystem {
		m["job"] = map[string]any{"name": a.Job, "trigger": clean(a.Cause)}
	}
	return m
}

func auth(a pg.Actor) map[string]any {
	m := map[string]any{"method": orNil(a.AuthMethod), "provider": nil, "protocol": nil, "issuer": nil, "mfa": nil, "session_id": nil, "credential_id": nil}
	switch {
	case a.Provider != "":
		m["provider"], m["protocol"], m["issuer"] = a.Provider, orNil(a.Protocol), orNil(a.Issuer)
	case a.AuthMethod == "password" || a.AuthMethod == "token":
		m["provider"] = "local"
	}
	if a.SessionID != uuid.Nil {
		m["session_id"], m["mfa"] = a.SessionID.String(), a.MFA
	}
	if a.TokenID != uuid.Nil {
		m["credential_id"] = a.TokenID.String()
	}
	return m
}

func (e *encoder) source(r pg.Request) map[string]any {
	m := map[string]any{"ip": nil, "user_agent_class": orNil(r.UserAgentClass), "trusted_proxy": nil}
	if r.SourceIP.IsValid() {
		m["ip"] = e.commit("source.ip", r.SourceIP.Unmap().String())
	}
	if r.TrustedProxy.IsValid() {
		m["trusted_proxy"] = r.TrustedProxy.String()
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
		m := map[string]any{"type": t.Type, "id": clean(t.ID), "label": orNil(t.Label)}
		if t.PII != "" {
			m["value"] = e.commit("targets."+strconv.Itoa(i)+".value", t.PII)
		}
		out = append(out, m)
	}
	return out
}

// orNil is null for text that is not there, and else text that PostgreSQL takes.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return clean(s)
}
