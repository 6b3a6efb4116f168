package webui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/audit/seal"
	"mailward/evidence"
	"mailward/identity"
	"mailward/incident"
)

// Of one incident, more than these make a file that nobody can read. The timeline of
// the audit has all of them.
const maxFileEvents = 5000

var errBigIncident = errors.New("webui: the incident has too many events for one file")

// incidentFiles makes the file of an incident, for pages and API.
type incidentFiles struct {
	store    *incident.Store
	log      *audit.Log
	now      func() time.Time
	seal     *seal.Sealer    // nil: no proofs
	exports  *evidence.Store // nil: there are none
	treeHead func(ctx context.Context) (*audit.TreeHead, error)
}

// taken is who takes a file away.
type taken struct {
	event audit.Event // with its actor and roles
	name  string
}

// make collects everything about an incident into an archive. That it is taken away
// is on record first; its SHA-256 is afterwards, before a byte is given out.
func (f incidentFiles) make(ctx context.Context, i incident.Incident, by taken) ([]byte, error) {
	ev := by.event
	ev.Action, ev.Workspace, ev.Retention = audit.IncidentExport, i.Workspace, audit.RetentionIncident
	ev.Targets = []audit.Target{{Type: "incident", ID: i.ID.String(), Label: i.Number}}
	ev.Correlation.IncidentID = i.ID.String()
	ev, err := f.log.BeginExport(ctx, ev)
	if err != nil {
		return nil, fmt.Errorf("record the export: %w", err)
	}
	var sum audit.Summary
	content, failed := f.collect(ctx, i, by.name, &sum)
	if failed == nil {
		h := sha256.Sum256(content)
		sum.SHA256 = hex.EncodeToString(h[:])
	}
	if err := f.log.EndExport(ctx, ev, sum, failed); err != nil {
		return nil, fmt.Errorf("record the export: %w", err)
	}
	return content, failed
}

func (f incidentFiles) collect(ctx context.Context, i incident.Incident, by string, sum *audit.Summary) ([]byte, error) {
	d := incident.Dossier{Incident: i, Zone: f.store.Zone(), Contents: map[uuid.UUID][]byte{}, MadeBy: by, MadeAt: f.now()}
	var err error
	if d.Notes, err = f.store.Notes(ctx, i.ID); err != nil {
		return nil, err
	}
	if d.Mails, err = f.store.Mails(ctx, i.ID, incident.MaxMails); err != nil {
		return nil, err
	}
	for _, r := range i.Reports {
		if r.SHA256 == "" {
			continue
		}
		if d.Contents[r.ID], err = f.store.Content(ctx, i.ID, r.ID); err != nil {
			return nil, err
		}
	}
	if err := f.addEvents(ctx, &d, sum); err != nil {
		return nil, err
	}
	if err := f.addEvidence(ctx, &d); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := d.Write(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// addEvents adds what the audit has of it, with proofs under a head that is signed
// now.
func (f incidentFiles) addEvents(ctx context.Context, d *incident.Dossier, sum *audit.Summary) (err error) {
	if f.seal != nil {
		if sum.Tree, err = f.treeHead(ctx); err != nil {
			return err
		}
	}
	if sum.Tree != nil {
		d.Head = sum.Tree.Note
		keys, err := sealKeys(ctx, f.seal, sum.Tree.Origin)
		if err != nil {
			return err
		}
		for _, k := range keys {
			d.Keys = append(d.Keys, k.VKey)
		}
	}
	filter := audit.Filter{Workspaces: []uuid.UUID{d.Incident.Workspace}, NoInstallation: true, Link: d.Incident.ID.String()}
	err = f.log.Each(ctx, filter, func(r audit.Row) error {
		if len(d.Events) == maxFileEvents {
			return errBigIncident
		}
		d.Events = append(d.Events, incident.DossierEvent{Seq: r.Seq, ID: r.ID, Bytes: r.Bytes, Resolved: r.Fields()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(d.Events)
	sum.Count = int64(len(d.Events))
	for n, e := range d.Events {
		if sum.Tree == nil || e.Seq == nil || uint64(*e.Seq) >= sum.Tree.Size {
			continue
		}
		got, err := f.seal.Include(ctx, e.ID)
		if errors.Is(err, seal.ErrNotSealed) {
			continue
		}
		if err != nil {
			return fmt.Errorf("prove event %s: %w", e.ID, err)
		}
		d.Events[n].Proof = proof.Text(got.Seq, got.Path, got.Note)
	}
	return nil
}

func (f incidentFiles) addEvidence(ctx context.Context, d *incident.Dossier) error {
	if f.exports == nil {
		return nil
	}
	p, err := f.exports.List(ctx, evidence.Filter{Workspaces: []uuid.UUID{d.Incident.Workspace}, Query: d.Incident.Number, Limit: 500})
	if err != nil {
		return err
	}
	for _, e := range p.Items {
		if e.Reference == d.Incident.Number {
			d.Evidence = append(d.Evidence, incident.DossierEvidence{ID: e.EvidenceID, State: e.State, Mails: len(e.Items), MadeAt: e.CreatedAt, RequestBy: e.RequestedName, Receipt: e.ReceiptID})
		}
	}
	return nil
}

// postIncidentFile sends the file. It is a POST, so that nothing fetches it by
// following a link; whoever has a passkey signs for it.
func (s *pages) postIncidentFile(c echo.Context) error {
	i, err := s.incidentOf(c, rightIncidentsRead)
	if err == nil && !s.person(c).CanIn(rightAuditExport, i.Workspace) {
		err = incident.ErrNotFound
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	_, wrong, err := s.attest(c)
	if err != nil {
		return s.failure(c, err)
	}
	if wrong != "" {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: s.frame(c, "incidents").T(wrong)})
	}
	who := s.person(c)
	content, err := s.files.make(c.Request().Context(), i, taken{audit.Event{Actor: who.Actor, Roles: who.Roles}, who.Label()})
	if errors.Is(err, errBigIncident) {
		return s.showIncident(c, http.StatusUnprocessableEntity, incidentView{Incident: i, Wrong: s.frame(c, "incidents").T("inc.file.big", maxFileEvents)})
	}
	if err != nil {
		return s.incidentFailure(c, err)
	}
	c.Response().Header().Set(echo.HeaderContentDisposition, `attachment; filename="`+i.Number+`.zip"`)
	return c.Blob(http.StatusOK, "application/zip", content)
}

// rawZip is an archive.
type rawZip struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (s *Server) registerIncidentFile() {
	register(s, endpoint{http.MethodPost, "/incidents/{id}/file", "export-incident", "Everything about an incident as an archive that can be checked without Mailward; needs incidents_read, too", identity.AuditExport, 0},
		func(ctx context.Context, p identity.Principal, in *ByID) (*rawZip, error) {
			i, err := s.findIncident(ctx, p, in.uuid(), identity.IncidentsRead)
			if err == nil && !p.Can(identity.AuditExport, i.Workspace) {
				err = incident.ErrNotFound
			}
			if err != nil {
				return nil, err
			}
			content, err := s.pages.files.make(ctx, i, taken{audit.Event{Actor: p.Actor(), Roles: p.RoleNames()}, personOf(p, nil).Label()})
			return &rawZip{"application/zip", `attachment; filename="` + i.Number + `.zip"`, content}, err
		})
}
