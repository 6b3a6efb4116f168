// Package mailcow is the mailcow that stands behind us, if one does: which
// domains, mailboxes and aliases it has, and a new domain there.
//
// A mail meets it at RCPT, by way of package limit: a recipient whom mailcow has
// told us of is taken without a question to its SMTP server. Nobody is refused by
// this list alone, as mailcow has addresses that its API does not list (those
// that end by themselves, for one).
package mailcow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/internal/pg"
)

// Domain is one of mailcow's.
type Domain struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Active      bool   `json:"active"`
	Backup      bool   `json:"backup_mx" doc:"mail for it is passed on by mailcow"`
	Mailboxes   int    `json:"mailboxes"`
	MostBoxes   int    `json:"mailboxes_limit"`
}

// number is what mailcow writes as 1 or as "1".
type number int64

// UnmarshalJSON implements [json.Unmarshaler].
func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "" || s == "null" || s == "false" {
		*n = 0
		return nil
	}
	if s == "true" {
		*n = 1
		return nil
	}
	var v int64
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return fmt.Errorf("a number: %w", err)
	}
	*n = number(v)
	return nil
}

// Domains lists mailcow's domains.
func (c *Client) Domains(ctx context.Context) ([]Domain, error) {
	var list []struct {
		Name        string `json:"domain_name"`
		Description string `json:"description"`
		Active      number `json:"active"`
		Backup      number `json:"backupmx"`
		Boxes       number `json:"mboxes_in_domain"`
		Most        number `json:"max_num_mboxes_for_domain"`
	}
	if err := c.get(ctx, "get/domain/all", &list); err != nil {
		return nil, err
	}
	out := make([]Domain, 0, len(list))
	for _, d := range list {
		if d.Name != "" {
			out = append(out, Domain{Name: strings.ToLower(d.Name), Description: d.Description, Active: d.Active == 1, Backup: d.Backup == 1, Mailboxes: int(d.Boxes), MostBoxes: int(d.Most)})
		}
	}
	return out, nil
}

// Recipients is mailcow's mailboxes and aliases that take mail: local parts by
// domain, in lower case. "*" is the rest of a domain, where it has an address for
// everybody.
func (c *Client) Recipients(ctx context.Context) (map[string]map[string]bool, error) {
	var boxes []struct {
		Name   string `json:"username"`
		Active number `json:"active"`
	}
	var aliases []struct {
		Address string `json:"address"`
		Active  number `json:"active"`
	}
	if err := c.get(ctx, "get/mailbox/all", &boxes); err != nil {
		return nil, err
	}
	if err := c.get(ctx, "get/alias/all", &aliases); err != nil {
		return nil, err
	}
	out := map[string]map[string]bool{}
	add := func(address string) {
		address = strings.ToLower(address)
		at := strings.LastIndexByte(address, '@')
		if at < 0 || at == len(address)-1 {
			return
		}
		local, domain := address[:at], address[at+1:]
		if local == "" {
			local = "*"
		}
		if out[domain] == nil {
			out[domain] = map[string]bool{}
		}
		out[domain][local] = true
	}
	for _, b := range boxes {
		if b.Active != 0 { // 2: nobody may log in, and mail is still taken
			add(b.Name)
		}
	}
	for _, a := range aliases {
		if a.Active != 0 {
			add(a.Address)
		}
	}
	return out, nil
}

// NewDomain is a domain to be made in mailcow. Sizes are in MiB.
type NewDomain struct {
	Name, Description     string
	Mailboxes, Aliases    int // at most
	BoxQuota, DomainQuota int64
}

// DefaultDomain is what mailcow's own form begins with.
func DefaultDomain(name string) NewDomain {
	return NewDomain{Name: name, Mailboxes: 10, Aliases: 400, BoxQuota: 3072, DomainQuota: 10240}
}

// Directory makes domains in mailcow, on record.
type Directory struct {
	*Client
	NextHop string // for mail of its domains; empty: the default
	Record  interface {
		Record(ctx context.Context, ev audit.Event) error
		RecordLater(ctx context.Context, ev audit.Event)
	}
}

// CreateDomain makes a domain in mailcow. Its intent is on record before it
// begins, and what came of it after. [ErrUnknown]: it may be there.
func (d *Directory) CreateDomain(ctx context.Context, actor pg.Actor, roles []string, n NewDomain) error {
	ev := audit.Event{Action: audit.MailcowDomain, Phase: "intent", Actor: actor, Roles: roles, Retention: audit.Retention3Years,
		Targets: []audit.Target{{Type: "domain", ID: n.Name, Label: n.Name}},
		After:   map[string]any{"name": n.Name, "mailboxes": n.Mailboxes, "aliases": n.Aliases, "mailbox_quota_mib": n.BoxQuota, "domain_quota_mib": n.DomainQuota}}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new id: %w", err)
	}
	ev.ID = id
	if err := d.Record.Record(ctx, ev); err != nil {
		return fmt.Errorf("record the new domain: %w", err)
	}
	err = d.post(ctx, "add/domain", map[string]any{"domain": n.Name, "description": n.Description, "mailboxes": n.Mailboxes, "aliases": n.Aliases,
		"defquota": min(n.BoxQuota, n.DomainQuota), "maxquota": n.DomainQuota, "quota": n.DomainQuota, "active": 1, "backupmx": 0, "relay_all_recipients": 0, "restart_sogo": 0})
	ev.ID, ev.Phase, ev.Correlation.CausationID = uuid.Nil, "result", id.String()
	ev.Outcome, ev.OutcomeCode, ev.OutcomeDetail = outcomeOf(err)
	d.Record.RecordLater(context.WithoutCancel(ctx), ev)
	return err
}

func outcomeOf(err error) (outcome, code, detail string) {
	switch {
	case err == nil:
		return "success", "", ""
	case errors.Is(err, ErrUnknown):
		return "unknown", "no_answer", "mailcow may have made the domain"
	case errors.Is(err, ErrDenied), errors.Is(err, ErrReadOnly):
		return "failure", "not_authorised", "mailcow did not take the key"
	case errors.Is(err, ErrExists):
		return "failure", "exists", "mailcow has the domain already"
	default:
		return "failure", "refused", "mailcow refused the domain"
	}
}
