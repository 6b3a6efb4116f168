package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/evidence"
	"mailward/evidence/receipt"
	"mailward/gateway/ledger"
	"mailward/scanner"
)

type evidenceCmd struct {
	Export evidenceExportCmd `cmd:"" help:"Export held mails as evidence, or fetch an export that is done, as a zip that can be checked without us."`
}

type evidenceExportCmd struct {
	File      string   `arg:"" help:"Where the zip goes." type:"path"`
	Item      []string `help:"Held mail to export (id of the item). May be given several times." placeholder:"ID"`
	Export    string   `help:"Fetch this export (id), which was asked for and agreed to in the web UI." placeholder:"ID"`
	Case      string   `help:"The case it is for, as people name it. A new one needs --title and --purpose."`
	Title     string   `help:"Of a new case."`
	Purpose   string   `help:"Of a new case, as in: report to the BSI."`
	Reason    string   `help:"Why it is exported."`
	Language  string   `default:"en" enum:"en,de" help:"Of the report."`
	LegalHold bool     `help:"Lock it also after its time (Object Lock only)."`
}

// Run makes an export, or fetches one. Where the installation wants two people,
// nobody makes one alone at the command line.
func (cmd *evidenceExportCmd) Run(ctx context.Context, c *cli, e *env) error {
	if (cmd.Export == "") == (len(cmd.Item) == 0) {
		return errors.New("give either --item (with --case and --reason) or --export")
	}
	store, done, err := openEvidence(ctx, c, e)
	if err != nil {
		return err
	}
	defer done()
	id, err := cmd.export(ctx, store)
	if err != nil {
		return err
	}
	x, err := made(ctx, store, id)
	if err != nil {
		return err
	}
	if x.State != evidence.Done {
		return fmt.Errorf("export %s is %s %s: see mailward doctor and the log", x.ID, x.State, x.Error)
	}
	return cmd.fetch(ctx, store, x, e)
}

// made makes an export, or waits for the worker of a running gateway that was
// faster.
func made(ctx context.Context, store *evidence.Store, id uuid.UUID) (evidence.Export, error) {
	for {
		if err := store.Make(ctx, id); err != nil {
			return evidence.Export{}, err
		}
		x, err := store.Get(ctx, id)
		if err != nil || x.State != evidence.Running && x.State != evidence.Approved {
			return x, err
		}
		select {
		case <-ctx.Done():
			return x, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (cmd *evidenceExportCmd) export(ctx context.Context, store *evidence.Store) (uuid.UUID, error) {
	if cmd.Export != "" {
		id, err := uuid.Parse(cmd.Export)
		if err != nil {
			return id, fmt.Errorf("--export must be the id of an export, is %q", cmd.Export)
		}
		return id, nil
	}
	req := evidence.Request{Case: evidence.Case{Reference: cmd.Case, Title: cmd.Title, Purpose: cmd.Purpose}, Reason: cmd.Reason, Language: cmd.Language, LegalHold: cmd.LegalHold}
	for _, s := range cmd.Item {
		id, err := uuid.Parse(s)
		if err != nil {
			return id, fmt.Errorf("--item must be the id of a held mail, is %q", s)
		}
		req.Items = append(req.Items, id)
	}
	x, err := store.Ask(ctx, operator(), nil, req)
	if errors.Is(err, evidence.ErrTwo) {
		return x.ID, errors.New("two people decide here: ask for the export in the web UI, and fetch it with --export when it is agreed to")
	}
	return x.ID, err
}

// fetch writes beside the target and renames, so that half of one is never taken
// for one.
func (cmd *evidenceExportCmd) fetch(ctx context.Context, store *evidence.Store, x evidence.Export, e *env) error {
	d, err := store.Open(ctx, operator(), nil, x, "")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(cmd.File), ".evidence-*")
	if err != nil {
		return errors.Join(fmt.Errorf("write evidence: %w", err), d.Send(brokenPipe{}))
	}
	defer os.Remove(tmp.Name())
	err = d.Send(tmp)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if err := os.Rename(tmp.Name(), cmd.File); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	worm := "locked until " + fmt.Sprint(x.RetainUntil)
	if x.RetainUntil == nil {
		worm = "in a folder, which is not WORM"
	}
	_, err = fmt.Fprintf(e.out, "%s: %s of case %s, receipt %s. Kept at %s, %s. Check it with: mailward receipt verify %s\n", cmd.File, x.EvidenceID, x.Reference, x.ReceiptID, x.URI, worm, cmd.File)
	return err
}

// brokenPipe takes nothing, so that a download that never began is on record as one
// that did not come to its end.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

// openEvidence opens the exports for a command.
func openEvidence(ctx context.Context, c *cli, e *env) (*evidence.Store, func(), error) {
	conf, err := c.load(e)
	if err != nil {
		return nil, nil, err
	}
	p := &program{conf: conf, log: quiet(e.err)}
	servers, err := findServers(ctx, conf, needs{database: true, scanner: true}, p.log)
	if err != nil {
		return nil, nil, err
	}
	p.onStop(servers.stop)
	if err := p.openForEvidence(ctx, servers); err != nil {
		p.stop()
		return nil, nil, err
	}
	return p.evidence, p.stop, nil
}

func (p *program) openForEvidence(ctx context.Context, servers *backing) (err error) {
	if p.db, err = openDatabase(ctx, servers, p.log); err != nil {
		return err
	}
	p.onStop(func(context.Context) { p.db.Close() })
	p.audit = audit.New(p.db, audit.Options{Observer: audit.Observer{Node: nodeName(), Version: version}, Log: p.log})
	p.ledger = ledger.New(p.db, p.log)
	p.onStop(func(context.Context) { p.ledger.Close() })
	if err := p.buildQuarantine(); err != nil {
		return err
	}
	p.sidecar = scanner.NewSidecar(scanner.SidecarConfig{Socket: servers.scanner})
	if err := p.openBao(); err != nil {
		return err
	}
	if p.seal, err = p.newSealer(nil); err != nil {
		return err
	}
	return p.buildEvidence()
}

type receiptCmd struct {
	Verify receiptVerifyCmd `cmd:"" help:"Check a bundle of evidence, offline. Exit code 0: all fits, 1: something was changed, 2: it could not be checked."`
}

type receiptVerifyCmd struct {
	Bundle string   `arg:"" help:"Folder or zip of an export." type:"path"`
	Key    string   `help:"Fingerprint (SHA-256) of the key of the receipt that you trust. Without: the key in the bundle is believed." placeholder:"HEX"`
	LogKey []string `help:"Public key of the audit that you trust (NAME+ID+BASE64). Without: the key in the bundle is believed." placeholder:"VKEY"`
	TSACA  string   `name:"tsa-ca" help:"Certificates of time stamp authorities that you trust, in PEM." placeholder:"FILE" type:"path"`
}

// Run checks a bundle. It needs no configuration, no database and no network.
func (cmd *receiptVerifyCmd) Run(e *env) error {
	opt := receipt.Options{Key: cmd.Key}
	for _, s := range cmd.LogKey {
		k, err := proof.ParseVKey(s)
		if err != nil {
			return exitCode{codeNoCheck, err}
		}
		opt.LogKeys = append(opt.LogKeys, k)
	}
	var err error
	if opt.Roots, err = pool(cmd.TSACA); err != nil {
		return exitCode{codeNoCheck, fmt.Errorf("--tsa-ca %w", err)}
	}
	fsys, closer, err := receipt.Open(cmd.Bundle)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	defer closer.Close()
	rep, err := receipt.Verify(fsys, opt)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	if rep.Problem != "" {
		return exitCode{codeTampered, fmt.Errorf("CHANGED: %s: %s", rep.File, rep.Problem)}
	}
	var b bytes.Buffer
	for _, n := range rep.Notices {
		fmt.Fprintln(&b, "Note:", n)
	}
	r := rep.Receipt
	fmt.Fprintf(&b, "%d files fit receipt %s: evidence %s of case %s, issued %s by %s.\n", rep.Files, r.ID, r.Case.EvidenceID, r.Case.Reference, r.IssuedAt.Format("2006-01-02 15:04:05 UTC"), r.Issuer.Installation)
	for _, o := range r.All() {
		fmt.Fprintf(&b, "%s: SHA-256 %s, the same as when it came in (%s).\n", o.File, o.SHA256, o.AcquiredAt.Format("2006-01-02 15:04:05 UTC"))
	}
	fmt.Fprintf(&b, "Sealed as event %d of %s, under a checkpoint of %d events.\n", r.Log.Seq, r.Log.Origin, r.Log.TreeSize)
	_, err = e.out.Write(b.Bytes())
	return err
}
