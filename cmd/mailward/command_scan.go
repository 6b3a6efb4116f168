package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/google/uuid"

	"mailward/gateway/facts"
	"mailward/gateway/history"
	"mailward/intel"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/dlp"
)

type scanCmd struct {
	File      string           `arg:"" help:"Mail file, or - for standard input."`
	To        []string         `placeholder:"ADDRESS" help:"A recipient whose policy, DLP sets, history of senders and threat intelligence are applied; may be given several times. Default: none, only the class by what needs no database."`
	From      string           `placeholder:"ADDRESS" help:"Envelope sender, for the policy. Default: the null sender."`
	Direction policy.Direction `enum:"inbound,outbound" default:"inbound" help:"Which way the mail goes (${enum})."`
}

// verdict is what scan prints.
type verdict struct {
	Class   policy.Class  `json:"class"`
	Score   float64       `json:"score"`
	Action  policy.Action `json:"action,omitempty"`
	Reasons []string      `json:"reasons"`
	// Recipients say what their policies would do, and why.
	Recipients []policy.RecipientDecision `json:"recipients,omitempty"`
	Report     policy.Report              `json:"report"`
}

// Run scans one file through the same engines as a mail that comes in.
func (cmd *scanCmd) Run(ctx context.Context, c *cli, e *env) error {
	v, err := cmd.scan(ctx, c, e)
	if err != nil {
		return exitCode{2, err}
	}
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return exitCode{2, err}
	}
	switch {
	case v.Class != policy.Clean:
		return exitCode{1, nil}
	case len(v.Report.Failed()) > 0:
		return exitCode{2, fmt.Errorf("no answer from %s, so nothing is known; try mailward doctor", strings.Join(v.Report.Failed(), ", "))}
	}
	return nil
}

func (cmd *scanCmd) scan(ctx context.Context, c *cli, e *env) (verdict, error) {
	conf, err := c.load(e)
	if err != nil {
		return verdict{}, err
	}
	raw, err := readMail(cmd.File, e)
	if err != nil {
		return verdict{}, err
	}
	log := quiet(e.err)
	servers, err := findServers(ctx, conf, needs{clamd: true, scanner: true, database: len(cmd.To) > 0}, log)
	if err != nil {
		return verdict{}, err
	}
	defer servers.stop(ctx)
	in := policy.Input{Mail: policy.Mail{EnvelopeFrom: cmd.From}, SandboxConfigured: conf.Sandbox.URL != ""}
	var known knowledge
	if len(cmd.To) > 0 {
		if known, err = openKnowledge(ctx, conf, servers, log); err != nil {
			return verdict{}, err
		}
		defer known.db.Close()
		if err := cmd.addressees(known.policies, &in); err != nil {
			return verdict{}, err
		}
	}
	spool, done, err := spoolOf(raw, conf)
	if err != nil {
		return verdict{}, fmt.Errorf("read %s: %w", cmd.File, err)
	}
	defer done()
	engines, _, _, err := newScanner(servers, conf, known.served(), log)
	if err != nil {
		return verdict{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return verdict{}, err
	}
	report, said := engines.Scan(ctx, scanner.Job{MailID: id, Spool: spool})
	in.Mail.From, in.Mail.LinkDomains = facts.Authors(report.HeaderFrom), facts.LinkDomains(said)
	sum := spool.SHA256()
	q := scanner.Question{MailID: id, Workspace: policy.DefaultWorkspace, Direction: cmd.Direction, EnvelopeFrom: cmd.From, Recipients: in.Recipients, Content: said, SHA256: hex.EncodeToString(sum[:]), Trial: true}
	if known.db != nil {
		q.Workspace = in.Recipients[0].Domain.Workspace
		q.History = known.past(ctx, q, in.Mail)
		engines = engines.WithJudges(dlp.NewJudge(known.dlp), intel.NewJudge(known.intel))
	}
	engines.Judge(ctx, q, &report)
	in.Report = report
	d := policy.Decide(in)
	v := verdict{Class: d.Class, Score: d.Score, Reasons: d.Reasons, Recipients: d.Recipients, Report: report}
	if len(d.Recipients) > 0 {
		v.Action = d.Action
	}
	return v, nil
}

// knowledge is what the database knows, as the gateway asks it. The zero value
// knows nothing.
type knowledge struct {
	db       *pg.DB
	policies *policy.Store
	dlp      *dlp.Store
	history  *history.Store
	intel    *intel.Store
}

// openKnowledge reads the policies, DLP sets and overrides of threat intelligence
// that are in force. Its indicators are asked for by value.
func openKnowledge(ctx context.Context, conf Config, servers *backing, log *slog.Logger) (knowledge, error) {
	db, err := openDatabase(ctx, servers, log)
	if err != nil {
		return knowledge{}, err
	}
	routes := conf.Relay.static()
	if conf.embeddedSink() {
		routes = policy.StaticRoutes{Domains: map[string]string{demoDomain: "sink"}, Outbound: routes.Outbound}
	}
	k := knowledge{db, policy.NewStore(db, routes, log), dlp.NewStore(db, log), history.New(db, log), intel.NewStore(db, nil, log)}
	if err := errors.Join(k.policies.Load(ctx), k.dlp.Load(ctx), k.intel.LoadOverrides(ctx)); err != nil {
		db.Close()
		return knowledge{}, err
	}
	return k, nil
}

// served says which domains are ours; nil: nobody knows.
func (k knowledge) served() func(uuid.UUID) []string {
	if k.policies == nil {
		return nil
	}
	return k.policies.Served
}

// past is what is known of the author of a mail that comes in. A file does not
// show that it is from there.
func (k knowledge) past(ctx context.Context, q scanner.Question, m policy.Mail) scanner.History {
	if q.Direction == policy.Outbound {
		return scanner.History{}
	}
	h := history.Mail{Workspace: q.Workspace, Links: m.LinkDomains}
	if len(m.From) == 1 {
		h.From = m.From[0]
	}
	return k.history.Look(ctx, h)
}

// addressees looks up who the mail is for. Nobody is asked who sent it: a file
// has no client.
func (cmd *scanCmd) addressees(policies *policy.Store, in *policy.Input) error {
	for _, a := range cmd.To {
		r, ok := policies.Lookup(a)
		if cmd.Direction == policy.Outbound {
			r, ok = policies.Outbound(cmd.From, a)
		}
		switch {
		case !ok && cmd.Direction == policy.Outbound:
			return fmt.Errorf("--to %s: there is no way out for it: set relay.outbound", a)
		case !ok:
			return fmt.Errorf("--to %s: no mail is taken for it: add the domain first", a)
		case len(in.Recipients) > 0 && in.Recipients[0].Domain.Workspace != r.Domain.Workspace:
			return errors.New("--to: all recipients must be of one workspace")
		}
		in.Recipients = append(in.Recipients, r)
	}
	in.Entries = policies.Entries(in.Recipients[0].Domain.Workspace)
	return nil
}

// spoolOf makes a mail of bytes, as the gateway would.
func spoolOf(raw []byte, conf Config) (*message.Spool, func(), error) {
	dir, err := os.MkdirTemp("", "mailward-scan")
	if err != nil {
		return nil, nil, err
	}
	cfg := message.DefaultConfig()
	cfg.Dir, cfg.MaxSize = dir, int64(conf.SMTP.MaxMessageSize)
	spooler, err := message.NewSpooler(cfg)
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	spool, err := spooler.FromBytes(crlf(raw))
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return spool, func() { spool.Close(); os.RemoveAll(dir) }, nil
}
