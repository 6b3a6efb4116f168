package sidecar

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gabriel-vasile/mimetype"

	"mailward/policy"
)

// Matcher looks at one decoded piece of a mail.
type Matcher interface {
	// Match matches the rules against data. An error means that it was not done.
	Match(data []byte, v Vars) ([]policy.Finding, error)
}

// Vars are what rules may ask about a piece beside its bytes.
type Vars struct {
	Path, Name, Ext string // Ext is lower case, with its dot
	ContentType     string // as the mail says
	TrueType        string // as the bytes say
	Depth           int
	Archived        bool // inside of an archive
	// Until is when the mail's time is over. Finding out which rule took it may go
	// on for [SlowGrace] beyond.
	Until time.Time
}

// walker takes one mail apart. It is used once.
type walker struct {
	lim      Limits
	mail     []byte // all of it; what is walked through are pieces of it, or decoded
	match    Matcher
	inflate  func(dst, src []byte) bool // may be nil, as may be known
	known    *memory
	end      time.Time
	resp     *Response
	parts    int
	files    int
	total    int64
	anomaly  map[string]bool // readings on which mail clients may differ
	extra    int
	decoded  []Extra // leaves, in case other engines need them
	topIsOdd bool    // the mail lacks the header by which engines know a mail
	said     collector
	charset  string // of the leaf that comes next
	// Pictures that were searched for codes, and the time that took.
	pictures    int
	pictureTime time.Duration
}

// extraBytes bounds the decoded parts that go back to the gateway.
const extraBytes = 8 << 20

func (s *Worker) walker(data []byte) *walker {
	return &walker{lim: s.Limits, mail: data, match: s.Matcher, inflate: s.Inflate, known: s.known, end: time.Now().Add(s.Limits.Time), resp: &Response{}, anomaly: map[string]bool{}}
}

// scan takes a mail apart and matches every piece. Limits that are hit and
// parts that will not open are findings, not errors.
func (s *Worker) scan(data []byte) (*Response, error) {
	w := s.walker(data)
	err := w.entity("1", data, 0, true)
	if err != nil && !isLimit(err) {
		return nil, err
	}
	if err != nil {
		w.limit(err)
	}
	w.conclude()
	w.resp.Content = &w.said.Content
	return w.resp, nil
}

// limit notes a limit that was hit: what lies behind it was not scanned.
func (w *walker) limit(err error) {
	name := err.Error()
	if slices.Contains(w.resp.Limits, name) {
		return
	}
	w.resp.Limits = append(w.resp.Limits, name)
	w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: "Mailward.Limit", Class: policy.Unscannable, Score: 5, Reason: "it could not be scanned whole: " + name})
}

// locked notes something that does not open.
func (w *walker) locked(p, name, why string) {
	w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: "Mailward.Locked", Class: policy.Unscannable, Score: 5, Part: p, PartName: name, Reason: why})
}

// conclude turns anomalies into a finding, and hands the decoded leaves on when
// another engine may read the mail differently.
func (w *walker) conclude() {
	if len(w.anomaly) > 0 {
		var names []string
		for n := range w.anomaly {
			names = append(names, n)
		}
		slices.Sort(names)
		w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: "Mailward.Malformed", Class: policy.Broken, Score: 1, Reason: "it is malformed: " + strings.Join(names, ", ")})
	}
	if len(w.anomaly) > 0 || w.topIsOdd || len(w.resp.Limits) > 0 {
		w.resp.Cuts = nil
	}
	if len(w.anomaly) > 0 || w.topIsOdd {
		w.resp.Extra = w.decoded
		if w.extra > extraBytes {
			w.limit(errTotalLimit)
		}
	}
}

func (w *walker) late() error {
	if time.Now().After(w.end) {
		return errTimeLimit
	}
	return nil
}

// entity reads one MIME entity: a header and what follows.
func (w *walker) entity(p string, data []byte, depth int, top bool) error {
	if depth > w.lim.Depth {
		return errDepthLimit
	}
	if w.parts++; w.parts > w.lim.Parts {
		return errPartsLimit
	}
	if err := w.late(); err != nil {
		return err
	}
	head, body := splitHeader(data)
	if len(head) > w.lim.HeaderBytes {
		return errHeaderLimit
	}
	h := parseHeader(head)
	if top {
		w.resp.Header = Header{Subject: decodeWords(h.get("subject")), From: decodeWords(h.get("from")), MessageID: strings.Trim(h.get("message-id"), "<> "), Date: h.get("date")}
		w.said.header(h)
		w.topIsOdd = h.get("from") == "" || h.get("received") == "" && h.get("date") == "" && h.get("message-id") == ""
		if h.count("from") > 1 {
			w.anomaly["several From lines"] = true
		}
		if err := w.run(head, Vars{Path: "0", Name: "header", ContentType: "text/rfc822-headers"}); err != nil {
			return err
		}
	}
	for _, n := range []string{"content-type", "content-transfer-encoding"} {
		if h.count(n) > 1 {
			w.anomaly["several "+n+" lines"] = true
		}
	}
	ct, params := parseContentType(h.get("content-type"))
	if strings.HasPrefix(ct, "multipart/") || params["boundary"] != "" {
		return w.multipart(p, h, ct, params, body, depth)
	}
	return w.leaf(p, h, ct, params, body, depth)
}

// multipart cuts a body at its boundary lines.
func (w *walker) multipart(p string, h header, ct string, params map[string]string, body []byte, depth int) error {
	if strings.HasPrefix(ct, "multipart/encrypted") {
		w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: "Mailward.PGP", Class: policy.Encrypted, Part: p, Reason: "it is encrypted with PGP for its recipient"})
	}
	b := params["boundary"]
	if b == "" {
		b = guessBoundary(body)
		w.anomaly["a multipart without boundary"] = true
	}
	if b == "" {
		return w.leaf(p, h, "text/plain", params, body, depth)
	}
	pieces, terminated := cutBoundary(body, b, w.lim.Parts+2)
	if len(pieces) < 2 {
		w.anomaly["a multipart without parts"] = true
		return w.leaf(p, h, "text/plain", params, body, depth)
	}
	if !terminated {
		w.anomaly["a multipart without end"] = true
	}
	// What stands before the first and after the last part is shown by nobody,
	// but is looked at all the same.
	for i, piece := range pieces {
		sub := fmt.Sprintf("%s.%d", p, i)
		if i == 0 || terminated && i == len(pieces)-1 {
			if len(bytes.TrimSpace(piece)) > 0 {
				if err := w.run(piece, Vars{Path: sub, Name: "preamble", ContentType: "text/plain", Depth: depth}); err != nil {
					return err
				}
			}
			continue
		}
		if err := w.entity(sub, piece, depth+1, false); err != nil {
			return err
		}
	}
	return nil
}

// leaf decodes one part and looks into it.
func (w *walker) leaf(p string, h header, ct string, params map[string]string, body []byte, depth int) error {
	name := partName(h, params)
	cte := strings.ToLower(strings.TrimSpace(h.get("content-transfer-encoding")))
	data, odd := decodeCTE(cte, body)
	if odd != "" {
		w.anomaly[odd] = true
	}
	if w.total += int64(len(data)); w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	if ct == "" {
		ct = "text/plain"
	}
	if (ct == "message/rfc822" || ct == "message/global") && len(data) > 0 {
		return w.entity(p+".1", data, depth+1, false)
	}
	if ct == "application/pkcs7-mime" || ct == "application/x-pkcs7-mime" {
		if !strings.Contains(strings.ToLower(h.get("content-type")), "signed-data") {
			w.resp.Findings = append(w.resp.Findings, policy.Finding{Engine: "yara", Name: "Mailward.SMIME", Class: policy.Encrypted, Part: p, PartName: name, Reason: "it is encrypted with S/MIME for its recipient"})
		}
	}
	if cte == "base64" && odd == "" && !strings.HasPrefix(ct, "text/") {
		w.cut(p, name, body)
	}
	disposition, _, _ := strings.Cut(strings.ToLower(h.get("content-disposition")), ";")
	w.charset = params["charset"]
	return w.piece(p, name, ct, strings.TrimSpace(disposition), data, depth, 0)
}

// piece looks at decoded bytes, and into them where they are a container.
func (w *walker) piece(p, name, ct, disposition string, data []byte, depth, archives int) error {
	if err := w.late(); err != nil {
		return err
	}
	part := policy.Part{Path: p, Name: name, ContentType: ct, Size: int64(len(data)), Depth: depth + archives, Disposition: disposition}
	label := w.charset
	w.charset = ""
	key := pieceKey{sha256.Sum256(data), name, ct, label, depth, archives}
	part.SHA256 = hex.EncodeToString(key.sum[:])
	known, ok := w.known.recall(key, len(data))
	if ok {
		part.TrueType = known.kind
	} else {
		part.TrueType, _, _ = strings.Cut(mimetype.Detect(data).String(), ";")
	}
	if len(w.resp.Parts) < w.lim.Parts {
		w.resp.Parts = append(w.resp.Parts, part)
	}
	if archives == 0 {
		if w.extra += len(data); w.extra <= extraBytes {
			w.decoded = append(w.decoded, Extra{Path: p, Name: name, Data: data})
		}
	}
	if ok {
		return w.limited(w.again(known, p))
	}
	before := w.mark()
	w.read(p, name, ct, part.TrueType, label, data)
	if err := w.look(part, data, depth, archives); err != nil {
		return err
	}
	if c, ok := w.since(before, p, part.TrueType); ok {
		w.known.remember(key, len(data), c)
	}
	return nil
}

// look opens a piece and matches the rules.
func (w *walker) look(part policy.Part, data []byte, depth, archives int) error {
	for i, u := range uuParts(data) {
		if err := w.piece(fmt.Sprintf("%s.u%d", part.Path, i+1), u.name, "application/octet-stream", "attachment", u.data, depth+1, archives); err != nil {
			return err
		}
	}
	opened, err := w.open(part.Path, part.Name, part.TrueType, data, depth, archives)
	if head := opened.matched(); head != nil {
		data = head
	}
	if merr := w.run(data, Vars{Path: part.Path, Name: part.Name, Ext: strings.ToLower(path.Ext(part.Name)), ContentType: part.ContentType, TrueType: part.TrueType, Depth: part.Depth, Archived: archives > 0}); merr != nil {
		return merr
	}
	return w.limited(err)
}

// limited notes a limit that one piece has hit: the rest of the mail is still
// looked at, unless the limit is one of the whole mail.
func (w *walker) limited(err error) error {
	if isLimit(err) && !errors.Is(err, errTimeLimit) && !errors.Is(err, errTotalLimit) {
		w.limit(err)
		return nil
	}
	return err
}

// run matches the rules against one piece.
func (w *walker) run(data []byte, v Vars) error {
	v.Until = w.end
	found, err := w.match.Match(data, v)
	if slow := (*SlowRule)(nil); errors.As(err, &slow) {
		slow.Part = v.Path
	}
	if err != nil {
		return fmt.Errorf("match rules on part %s: %w", v.Path, err)
	}
	for _, f := range found {
		f.Engine, f.Part, f.PartName = "yara", v.Path, v.Name
		w.resp.Findings = append(w.resp.Findings, f)
	}
	return nil
}

// partName is what a mail client would call the part, with all ways to hide it
// undone: RFC 2231 in pieces, RFC 2047 where it does not belong, and folders.
func partName(h header, params map[string]string) string {
	_, disp := parseContentType(h.get("content-disposition"))
	name := disp["filename"]
	if name == "" {
		name = params["name"]
	}
	name = decodeWords(name)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	return strings.TrimRight(strings.TrimSpace(name), ". ")
}
