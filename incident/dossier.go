package incident

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/audit"
)

// Dossier is everything that is kept about an incident, as one file that an auditor
// or an authority can be given and that can be checked without us.
type Dossier struct {
	Incident Incident
	Zone     *time.Location
	Notes    []Note
	Mails    []Mail
	// Contents are the reports that were handed in, by the id of their version.
	Contents map[uuid.UUID][]byte
	Events   []DossierEvent // the oldest first
	Evidence []DossierEvidence
	// Head is the signed note that covers the events, Keys those that it is checked
	// with; empty where nothing is sealed.
	Head string
	Keys []string
	// MadeBy and MadeAt say who took it away, and when.
	MadeBy string
	MadeAt time.Time
}

// DossierEvent is one event of the audit: its bytes as they are kept, the event with
// the personal values that those bytes only commit to, and the proof that it is under
// Head (c2sp.org/tlog-proof), "" where it has none yet.
type DossierEvent struct {
	Seq      *int64
	ID       uuid.UUID
	Bytes    []byte
	Resolved any
	Proof    string
}

// DossierEvidence is an export of evidence that names the incident as its case.
type DossierEvidence struct {
	ID        string // EV-2026-000001
	State     string
	Mails     int
	MadeAt    time.Time
	RequestBy string
	Receipt   string // its id, "" as long as there is none
}

// file is one file of the archive.
type file struct {
	name    string
	content []byte
}

// Write writes the archive (ZIP). Its last file has the SHA-256 of all others.
func (d Dossier) Write(w io.Writer) error {
	files, err := d.files()
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.content), f.name)
	}
	files = append(files, file{"SHA256SUMS", []byte(sums.String())})
	z := zip.NewWriter(w)
	for _, f := range files {
		out, err := z.CreateHeader(&zip.FileHeader{Name: d.Incident.Number + "/" + f.name, Method: zip.Deflate, Modified: d.MadeAt.UTC()})
		if err == nil {
			_, err = out.Write(f.content)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("end archive: %w", err)
	}
	return nil
}

func (d Dossier) files() (list []file, err error) {
	stages, err := d.Incident.Stages(d.Zone, d.MadeAt)
	if err != nil {
		return nil, fmt.Errorf("deadlines of %s: %w", d.Incident.Number, err)
	}
	incident, err := indented(d.Incident)
	if err != nil {
		return nil, err
	}
	notes, err := indented(d.Notes)
	if err != nil {
		return nil, err
	}
	list = []file{{"README.txt", []byte(d.readme(stages))}, {"incident.json", incident}, {"deadlines.csv", deadlinesTable(stages)}, {"notes.json", notes}, {"mails.csv", d.mailsTable()}, {"evidence.csv", d.evidenceTable()}}
	for _, r := range d.Incident.Reports {
		if content := d.Contents[r.ID]; content != nil {
			list = append(list, file{fmt.Sprintf("reports/%s-%d.json", r.Stage, r.Version), content})
		}
	}
	var resolved bytes.Buffer
	lines := json.NewEncoder(&resolved)
	lines.SetEscapeHTML(false)
	for _, e := range d.Events {
		name := "audit/" + e.ID.String()
		list = append(list, file{name + ".json", e.Bytes})
		if e.Proof != "" {
			list = append(list, file{name + ".tlog-proof", []byte(e.Proof)})
		}
		if err := lines.Encode(e.Resolved); err != nil {
			return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
		}
	}
	list = append(list, file{"audit.jsonl", resolved.Bytes()})
	if d.Head != "" {
		list = append(list, file{"checkpoint.txt", []byte(d.Head)}, file{"keys.txt", []byte(strings.Join(d.Keys, "\n") + "\n")})
	}
	return list, nil
}

func indented(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode for the file of an incident: %w", err)
	}
	return append(b, '\n'), nil
}

// readme says what is what. It is for people who have no Mailward.
func (d Dossier) readme(stages []Stage) string {
	i := d.Incident
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	at := func(t time.Time) string {
		if t.IsZero() {
			return "not known"
		}
		return t.In(d.Zone).Format("2006-01-02 15:04:05 MST")
	}
	say("%s: %s", i.Number, oneLine(i.Title))
	if i.Exercise {
		say("\nEXERCISE. Nothing of this is owed to an authority.")
	}
	say("\nseverity          %s", i.Severity)
	say("state             %s", i.State)
	say("significant       %s", i.Significant)
	if i.Significant != Undecided {
		say("  decided         %s by %s: %s", at(i.SignificantAt), oneLine(i.SignificantBy), oneLine(i.SignificantReason))
	}
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"first signal", i.DetectedAt}, {"aware", i.AwareAt}, {"contained", i.ContainedAt}, {"completed", i.ClosedAt}} {
		say("%-17s %s", t.name, at(t.at))
	}
	say("\nReports")
	for _, s := range stages {
		due := ""
		if !s.Due.IsZero() {
			due = "due " + at(s.Due)
		}
		if !s.SubmittedAt.IsZero() {
			due += ", handed in " + at(s.SubmittedAt)
		}
		if s.SubmittedLateBy > 0 {
			due += " (late by " + s.SubmittedLateBy.String() + ")"
		}
		say("  %-22s %-14s %s", s.Name, s.State, due)
	}
	if len(stages) == 0 {
		say("  nobody has noted when they were aware: no deadline runs")
	}
	say("\nTaken away %s by %s.", at(d.MadeAt), oneLine(d.MadeBy))
	b.WriteString(dossierGuide)
	return b.String()
}

const dossierGuide = `
What is in it
  incident.json        the case, with all versions of its reports
  deadlines.csv        each report: law, due, state, handed in
  reports/             reports as they were handed in. Their SHA-256 stand in
                       incident.json and in the events of the audit.
  notes.json           what was noted
  mails.csv            the mails of the case
  evidence.csv         exports of evidence that name it; each has a receipt of its own
  audit/ID.json        every event of the audit that names the case: the very bytes
                       that are kept. Personal values are in them as commitments.
  audit/ID.tlog-proof  proof that the event is under a signed head of the audit
                       (c2sp.org/tlog-proof)
  audit.jsonl          the same events with the personal values that are still kept
  checkpoint.txt       a signed head of the audit (C2SP signed note), keys.txt the
                       public keys. Compare them with those that you were given by
                       another way: a file cannot vouch for itself.
  SHA256SUMS           check with: sha256sum -c SHA256SUMS

The SHA-256 of the whole archive stands in the audit, in the event incident.export.
`

// oneLine is text of people in a file that is read in a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}

func deadlinesTable(stages []Stage) []byte {
	rows := [][]string{{"report", "law", "state", "from", "due", "own_target", "submitted_at", "late_by_seconds", "reason"}}
	for _, s := range stages {
		rows = append(rows, []string{string(s.Name), s.Law, string(s.State), rfc3339(s.From), rfc3339(s.Due), rfc3339(s.Target), rfc3339(s.SubmittedAt), strconv.FormatInt(int64(s.SubmittedLateBy/time.Second), 10), s.Reason})
	}
	return table(rows)
}

func (d Dossier) mailsTable() []byte {
	rows := [][]string{{"mail_id", "received_at", "from", "subject", "class", "action", "recipients", "delivered"}}
	for _, m := range d.Mails {
		rows = append(rows, []string{m.ID.String(), rfc3339(m.ReceivedAt), m.From, m.Subject, m.Class, m.Action, strconv.Itoa(m.Recipients), strconv.Itoa(m.Delivered)})
	}
	return table(rows)
}

func (d Dossier) evidenceTable() []byte {
	rows := [][]string{{"evidence_id", "state", "mails", "requested_at", "requested_by", "receipt_id"}}
	for _, e := range d.Evidence {
		rows = append(rows, []string{e.ID, e.State, strconv.Itoa(e.Mails), rfc3339(e.MadeAt), e.RequestBy, e.Receipt})
	}
	return table(rows)
}

// table is CSV (RFC 4180) in which no cell is a formula to a spreadsheet.
func table(rows [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	for _, row := range rows {
		for n, cell := range row {
			row[n] = audit.SafeCell(cell)
		}
		_ = w.Write(row) // into memory
	}
	w.Flush()
	return b.Bytes()
}
