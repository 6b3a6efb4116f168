package webui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"mailward/identity"
	"mailward/policy"
	"mailward/quarantine"
)

// ItemFields are the filters of the list, in an address and in a body.
type ItemFields struct {
	Query     string             `query:"q" json:"q,omitempty" maxLength:"200" doc:"part of subject, sender, recipient or the name of a finding (three letters or digits at least); or an id, a SHA-256 or a <message id>"`
	Class     []policy.Class     `query:"class" json:"class,omitempty"`
	State     []quarantine.State `query:"state" json:"state,omitempty"`
	Domain    string             `query:"domain" json:"domain,omitempty" maxLength:"253" doc:"of a recipient"`
	Direction policy.Direction   `query:"direction" json:"direction,omitempty" enum:"inbound,outbound"`
	Sender    string             `query:"sender" json:"sender,omitempty" maxLength:"320" doc:"of header or envelope: an address, @domain with those below it, or a part"`
	Recipient string             `query:"recipient" json:"recipient,omitempty" maxLength:"320" doc:"an address, @domain or a part"`
	Subject   string             `query:"subject" json:"subject,omitempty" maxLength:"200" doc:"a part"`
	Hash      string             `query:"hash" json:"hash,omitempty" maxLength:"64" doc:"SHA-256 of the mail or of a part"`
	MessageID string             `query:"message_id" json:"message_id,omitempty" maxLength:"998"`
	Symbol    string             `query:"symbol" json:"symbol,omitempty" maxLength:"200" doc:"a sign, by its name"`
	Rule      string             `query:"rule" json:"rule,omitempty" maxLength:"200" doc:"a YARA rule, by its name"`
	Signature string             `query:"signature" json:"signature,omitempty" maxLength:"200" doc:"of ClamAV"`
	URL       string             `query:"url" json:"url,omitempty" maxLength:"2000" doc:"a link in the mail; scheme and query do not count"`
	Shape     string             `query:"shape" json:"shape,omitempty" maxLength:"200" doc:"a subject with # for words with digits"`
}

type itemFilter struct {
	Paging
	Span
	ItemFields
	ScoreFrom float64          `query:"score_from" default:"-1000000"`
	ScoreTo   float64          `query:"score_to" default:"1000000"`
	Sort      quarantine.Order `query:"sort" enum:"newest,oldest,score" default:"newest"`
}

func (in ItemFields) filter(workspaces []uuid.UUID) quarantine.Filter {
	return quarantine.Filter{Workspaces: workspaces, Query: in.Query, Classes: in.Class, States: in.State, Domain: in.Domain, Direction: in.Direction,
		Sender: in.Sender, Recipient: in.Recipient, Subject: in.Subject, Hash: in.Hash, MessageID: in.MessageID, Symbol: in.Symbol, Rule: in.Rule,
		Signature: in.Signature, URL: in.URL, Shape: in.Shape}
}

// bound is a bound of the score; the outermost ones are none.
func bound(n float64) *float64 {
	if n <= -1_000_000 || n >= 1_000_000 {
		return nil
	}
	return &n
}

func (s *Server) registerQuarantineList() {
	register(s, endpoint{http.MethodGet, "/quarantine", "list-quarantine", "Held mails, newest first", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *itemFilter) (*list[quarantine.Item], error) {
			ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, identity.ViewMeta)
			if err != nil {
				return nil, err
			}
			f := in.filter(ws)
			f.From, f.To, f.Cursor, f.Limit, f.Order = in.From, in.To, in.Cursor, in.Limit, in.Sort
			f.ScoreFrom, f.ScoreTo = bound(in.ScoreFrom), bound(in.ScoreTo)
			got, err := s.deps.Quarantine.List(ctx, f)
			if err != nil {
				return nil, err
			}
			return page(got.Items, got.Next), nil
		})
	if s.deps.Bulks != nil {
		s.registerBulks()
	}
}

type bulkInput struct {
	Body struct {
		ID     string             `json:"id,omitempty" format:"uuid" doc:"chosen by the caller: the same one again is the same act"`
		Act    quarantine.BulkAct `json:"act" enum:"release,delete,deny,sandbox"`
		Reason string             `json:"reason" maxLength:"500" doc:"why; it goes on record with each mail"`
		Items  []string           `json:"items,omitempty" maxItems:"1000" doc:"ids of held mails"`
		Filter *struct {
			ItemFields
			From     time.Time `json:"from,omitzero" doc:"not before (RFC 3339)"`
			To       time.Time `json:"to,omitzero" doc:"before (RFC 3339)"`
			Expected int       `json:"expected" doc:"how many mails you know that it selects, up to 10,001; with more than 1 % of difference nothing is done"`
		} `json:"filter,omitempty" doc:"instead of items: the first 1,000 that it selects, newest first"`
	}
}

func (s *Server) registerBulks() {
	register(s, endpoint{http.MethodPost, "/quarantine/bulk", "start-bulk", "Does one act on many held mails; it is done after the answer", identity.ViewMeta, http.StatusAccepted},
		s.postBulk)
	register(s, endpoint{http.MethodGet, "/quarantine/bulk", "list-bulks", "Your last acts on many held mails", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, _ *struct{}) (*list[quarantine.Bulk], error) {
			got, err := s.deps.Bulks.List(ctx, p.User.ID)
			if err != nil {
				return nil, err
			}
			return page(got, ""), nil
		})
	register(s, endpoint{http.MethodGet, "/quarantine/bulk/{id}", "get-bulk", "How far an act has come, and what became of each mail", identity.ViewMeta, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*one[quarantine.Bulk], error) {
			k, err := s.deps.Bulks.Get(ctx, p.User.ID, in.uuid())
			hideItems(k, p)
			return &one[quarantine.Bulk]{Body: k}, err
		})
}

func (s *Server) postBulk(ctx context.Context, p identity.Principal, in *bulkInput) (*one[quarantine.Bulk], error) {
	right, ok := bulkRights[in.Body.Act]
	if !ok {
		return nil, quarantine.ErrBulkAct
	}
	if (len(in.Body.Items) == 0) == (in.Body.Filter == nil) {
		return nil, huma.Error422UnprocessableEntity("either items or a filter")
	}
	ws, _, err := s.deps.Identity.WorkspacesOf(ctx, p, right)
	if err != nil {
		return nil, err
	}
	if len(ws) == 0 {
		return nil, huma.Error403Forbidden("this needs the right " + string(right))
	}
	if in.Body.Act == quarantine.BulkRelease || in.Body.Act == quarantine.BulkDelete {
		if err := s.stepUp(ctx, p); err != nil {
			return nil, err
		}
	}
	ask := quarantine.BulkAsk{Act: in.Body.Act, Reason: in.Body.Reason, Workspaces: ws}
	if ask.ID, err = uuid.Parse(in.Body.ID); err != nil {
		if ask.ID, err = uuid.NewV7(); err != nil {
			return nil, err
		}
	}
	for _, text := range in.Body.Items {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("an item is no id")
		}
		ask.Items = append(ask.Items, id)
	}
	if f := in.Body.Filter; f != nil {
		ask.Filter, ask.Expected = f.filter(ws), f.Expected
		ask.Filter.From, ask.Filter.To = f.From, f.To
	}
	k, err := s.deps.Bulks.Start(ctx, bulkAsker(p), ask)
	switch {
	case errors.Is(err, quarantine.ErrBulkChanged):
		return nil, huma.Error409Conflict("the filter selects another number of mails now")
	case errors.Is(err, quarantine.ErrBulkEmpty):
		return nil, huma.Error422UnprocessableEntity("no such mail is there that you may do this with")
	}
	hideItems(k, p) // an act of this id may be an earlier one
	return &one[quarantine.Bulk]{Body: k}, err
}
