package evidence

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"path"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// Download is what somebody takes out.
type Download struct {
	Name  string // of the file; for a whole bundle that of its zip
	Bytes int64  // 0: not known before
	files []File
	data  [][]byte
	done  func(error) error
}

// Open prepares the download of one file, or of all of them where name is "". The
// download is put on record and into the chain of custody first; then every file is
// read and compared with its hash, before a byte of any goes out. The caller calls
// [Download.Send] once.
func (s *Store) Open(ctx context.Context, actor pg.Actor, roles []string, e Export, name string) (*Download, error) {
	if e.State != Done {
		return nil, ErrState
	}
	d := &Download{Name: e.EvidenceID + ".zip"}
	for _, f := range e.Files {
		if name == "" || f.Name == name {
			d.files = append(d.files, f)
		}
	}
	if len(d.files) == 0 {
		return nil, ErrNotFound
	}
	what := "bundle"
	if name != "" {
		d.Name, d.Bytes, what = name, d.files[0].Bytes, name
	}
	ev := audit.Event{Action: audit.EvidenceDownload, Phase: "intent", Workspace: e.Workspace, Actor: actor, Roles: roles, Retention: audit.Retention3Years, Targets: exportTargets(e), After: map[string]any{"file": what, "receipt_id": e.ReceiptID}}
	intent := uuid.Nil
	err := s.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if intent, err = s.Audit.Append(ctx, tx, ev); err != nil {
			return err
		}
		return s.custody(ctx, tx, custody{Export: e.ID, Workspace: e.Workspace, Event: "downloaded", Actor: actor, Place: what, AuditEvent: intent})
	})
	if err != nil {
		return nil, fmt.Errorf("record the download: %w", err)
	}
	d.done = func(err error) error {
		ev.Phase, ev.Correlation.CausationID = "result", intent.String()
		if err != nil {
			ev.Outcome, ev.OutcomeDetail = "failure", "the content was not sent to its end"
		}
		return s.Audit.Record(context.WithoutCancel(ctx), ev)
	}
	for _, f := range d.files {
		b, err := s.Vault.Get(ctx, f.Object)
		if err == nil && sumOf(b) != f.SHA256 {
			err = s.damaged(ctx, actor, e, f, sumOf(b))
		}
		if err != nil {
			d.done(err)
			return nil, err
		}
		d.data = append(d.data, b)
	}
	return d, nil
}

// damaged puts on record that stored bytes are not those that were hashed.
func (s *Store) damaged(ctx context.Context, actor pg.Actor, e Export, f File, now string) error {
	s.Log.Error("a stored file of evidence is not what was exported", "export", e.ID, "file", f.Name)
	sys := pg.System("evidence check", "download by "+string(actor.Type))
	err := s.DB.Act(context.WithoutCancel(ctx), sys, func(ctx context.Context, tx pgx.Tx) error {
		id, err := s.Audit.Append(ctx, tx, audit.Event{Action: audit.EvidenceDamaged, Outcome: "failure", OutcomeCode: "hash_mismatch", Severity: "critical", Workspace: e.Workspace, Actor: sys,
			Retention: audit.Retention3Years, Targets: exportTargets(e), Before: map[string]any{"file": f.Name, "sha256": f.SHA256}, After: map[string]any{"file": f.Name, "sha256": now}})
		if err != nil {
			return err
		}
		return s.custody(ctx, tx, custody{Export: e.ID, Workspace: e.Workspace, Event: "damaged", Actor: sys, Place: f.Name, AuditEvent: id})
	})
	if err != nil {
		return fmt.Errorf("%w: %s (and it was not recorded: %w)", ErrDamaged, f.Name, err)
	}
	return fmt.Errorf("%w: %s", ErrDamaged, f.Name)
}

// Send writes the file, or a zip of all, and puts on record whether it went to its
// end.
func (d *Download) Send(w io.Writer) error {
	err := d.write(w)
	if recorded := d.done(err); err == nil {
		err = recorded
	}
	return err
}

func (d *Download) write(w io.Writer) error {
	if d.Bytes > 0 || len(d.files) == 1 {
		_, err := w.Write(d.data[0])
		return err
	}
	z := zip.NewWriter(w)
	for i, f := range d.files {
		e, err := z.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Deflate})
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
		if _, err := e.Write(d.data[i]); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return z.Close()
}

// FileName is the name for whoever saves it: without folders.
func (d *Download) FileName() string { return path.Base(d.Name) }
