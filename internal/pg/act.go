package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ActorType says what kind of being acted.
type ActorType string

// The types of actor. An identity that is not known is never System.
const (
	ActorUser      ActorType = "user"
	ActorService   ActorType = "service"
	ActorRecipient ActorType = "recipient" // the holder of a digest link
	ActorOperator  ActorType = "operator"  // a command on the host
	ActorSystem    ActorType = "system"    // background work
	ActorDatabase  ActorType = "database"  // someone at psql
	ActorAnonymous ActorType = "anonymous"
	ActorUnknown   ActorType = "unknown"
)

// Actor is who acts. For a person SessionID or TokenID is the claim that the
// database looks up; the other fields are for events that the program writes itself.
type Actor struct {
	Type       ActorType
	UserID     uuid.UUID
	Email      string
	Display    string
	SessionID  uuid.UUID
	TokenID    uuid.UUID
	Job, Cause string // of background work: its name, and what set it off
	AuthMethod string // password, password+totp, passkey, sso, token, none

	// By whose word the person of a session is known: local, or the provider of a
	// single sign-on with its protocol and issuer; and whether with two factors.
	Provider, Protocol, Issuer string
	MFA                        bool
}

// System is background work: job is its name, cause what set it off.
func System(job, cause string) Actor {
	return Actor{Type: ActorSystem, Display: "System", Job: job, Cause: cause, AuthMethod: "none"}
}

// Operator is a person at the command line of the host, known by the name that
// the operating system gives.
func Operator(osUser string) Actor {
	return Actor{Type: ActorOperator, Display: osUser, AuthMethod: "os"}
}

// Request is the call that an act came with.
type Request struct {
	ID             string
	Method         string
	Path           string // the route's template, never the raw path
	Application    string // web-ui, api, smtp, worker, cli
	UserAgentClass string
	TraceID        string // of the caller's trace (W3C Trace Context), if it sent one
	ClientID       string // the API token, for a program
	Status         int
	SourceIP       netip.Addr
	TrustedProxy   netip.Addr // that says so, if the caller came by one
	DurationMS     int64
}

type requestKey struct{}
type alsoKey struct{}

// Also has fn run at the end of each transaction that [DB.Act] opens under ctx,
// before it is committed: what it writes is there if and only if the act is.
func Also(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) context.Context {
	return context.WithValue(ctx, alsoKey{}, fn)
}

type reasonKey struct{}

// WithRequest notes the request that the acts under ctx belong to.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom returns what [WithRequest] noted.
func RequestFrom(ctx context.Context) (Request, bool) {
	r, ok := ctx.Value(requestKey{}).(Request)
	return r, ok
}

// Why is what a person says of an act's cause.
type Why struct {
	Text, Code, Ticket, LegalBasis string
	Emergency                      bool
}

// WithWhy notes why a person acts. It goes into the events of the act and of its
// row changes.
func WithWhy(ctx context.Context, w Why) context.Context {
	return context.WithValue(ctx, reasonKey{}, w)
}

// WithReason notes the words of a reason; what else was noted stays.
func WithReason(ctx context.Context, reason string) context.Context {
	w := WhyFrom(ctx)
	w.Text = reason
	return WithWhy(ctx, w)
}

// WhyFrom returns what [WithWhy] noted.
func WhyFrom(ctx context.Context) Why {
	w, _ := ctx.Value(reasonKey{}).(Why)
	return w
}

// claim is what the triggers read. Only the runtime role is believed.
type claim struct {
	Type    ActorType  `json:"type"`
	Session *uuid.UUID `json:"session,omitempty"`
	Token   *uuid.UUID `json:"token,omitempty"`
	Job     string     `json:"job,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Name    string     `json:"name,omitempty"`
	// Of background work by the word of a provider; those of a session are looked up.
	Provider string `json:"provider,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
}

type actContext struct {
	RequestID   string `json:"request_id,omitempty"`
	Method      string `json:"method,omitempty"`
	Path        string `json:"path,omitempty"`
	Application string `json:"application,omitempty"`
	UserAgent   string `json:"user_agent_class,omitempty"`
	SourceIP    string `json:"source_ip,omitempty"`
	Proxy       string `json:"trusted_proxy,omitempty"`
	TraceID     string `json:"trace_id,omitempty"`
	ClientID    string `json:"client_id,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Code        string `json:"reason_code,omitempty"`
	Ticket      string `json:"ticket,omitempty"`
	LegalBasis  string `json:"legal_basis,omitempty"`
	Emergency   bool   `json:"emergency,omitempty"`
}

// beginTries is how often Act tries to open its transaction: after a restart of
// the server the pool holds dead connections, and nothing was done on them yet.
const beginTries = 3

// actLimit is for transactions of those who have set no time of their own, as most
// background work: a server that is silent must not hold them for ever.
const actLimit = 10 * time.Minute

// Act runs fn in a writing transaction in the name of a. It is the only way to
// open one. The transaction is committed if fn returns nil; an error of the
// commit may hide a commit that was done, so writers use ids of their own. fn
// runs at most once: whether to try again after an error is the caller's to
// decide ([IsConflict], [IsUnavailable]).
func (db *DB) Act(ctx context.Context, a Actor, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if db.fault == nil {
		return db.act(ctx, a, fn)
	}
	if err := db.fault(a, false); err != nil {
		return err
	}
	if err := db.act(ctx, a, fn); err != nil {
		return err
	}
	return db.fault(a, true)
}

func (db *DB) act(ctx context.Context, a Actor, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if _, set := ctx.Deadline(); !set {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, actLimit)
		defer cancel()
	}
	c, x, err := claims(ctx, a)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		began := false
		err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, setClaimSQL, c, x); err != nil {
				return fmt.Errorf("set actor of transaction: %w", err)
			}
			began = true
			if err := fn(ctx, tx); err != nil {
				return err
			}
			if also, ok := ctx.Value(alsoKey{}).(func(context.Context, pgx.Tx) error); ok {
				return also(ctx, tx)
			}
			return nil
		})
		if err == nil || began || try == beginTries || ctx.Err() != nil || !isDeadConn(err) {
			return err
		}
	}
}

// ActAll runs the statements of b in one writing transaction in the name of a,
// and asks the server once for all of them: what is sent up to one Sync message
// is one transaction. It must hold no BEGIN or COMMIT. As with Act, an error may
// hide a commit that was done.
func (db *DB) ActAll(ctx context.Context, a Actor, b *pgx.Batch) error {
	c, x, err := claims(ctx, a)
	if err != nil {
		return err
	}
	all := &pgx.Batch{}
	all.Queue(setClaimSQL, c, x)
	all.QueuedQueries = append(all.QueuedQueries, b.QueuedQueries...)
	return db.SendBatch(ctx, all).Close()
}

// claims are what a transaction says of its actor and of what it came with.
func claims(ctx context.Context, a Actor) (claim, act string, err error) {
	c, err := json.Marshal(newClaim(a))
	if err != nil {
		return "", "", fmt.Errorf("encode actor: %w", err)
	}
	x, err := json.Marshal(newActContext(ctx))
	if err != nil {
		return "", "", fmt.Errorf("encode context of the act: %w", err)
	}
	return string(c), string(x), nil
}

// isDeadConn says whether err means that a pooled connection turned out to be
// dead, as opposed to that no connection can be made.
func isDeadConn(err error) bool {
	var connErr *pgconn.ConnectError
	return IsUnavailable(err) && !errors.As(err, &connErr) && !errors.Is(err, context.DeadlineExceeded)
}

func newClaim(a Actor) claim {
	c := claim{Type: a.Type, Job: a.Job, Cause: a.Cause}
	if a.Type == ActorSystem {
		c.Provider, c.Protocol, c.Issuer = a.Provider, a.Protocol, a.Issuer
	}
	if a.SessionID != uuid.Nil {
		c.Session = &a.SessionID
	}
	if a.TokenID != uuid.Nil {
		c.Token = &a.TokenID
	}
	if a.Type == ActorOperator || a.Type == ActorService || a.Type == ActorRecipient {
		c.Name = a.Display
	}
	return c
}

func newActContext(ctx context.Context) actContext {
	r, _ := RequestFrom(ctx)
	w := WhyFrom(ctx)
	x := actContext{RequestID: r.ID, Method: r.Method, Path: r.Path, Application: r.Application, UserAgent: r.UserAgentClass, TraceID: r.TraceID, ClientID: r.ClientID,
		Reason: w.Text, Code: w.Code, Ticket: w.Ticket, LegalBasis: w.LegalBasis, Emergency: w.Emergency}
	if r.SourceIP.IsValid() {
		x.SourceIP = r.SourceIP.Unmap().String()
	}
	if r.TrustedProxy.IsValid() {
		x.Proxy = r.TrustedProxy.Unmap().String()
	}
	return x
}
