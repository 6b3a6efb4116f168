package sidecar

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	inflate  func(dst, src []byte) bool // may be nil, as may be known and buffers
	known    *memory
	buffers  *buffers
	end      time.Time
	resp     *Response
	parts    int
	files    int
	total    int64
	anomaly  map[string]bool // readings on which mail clients may differ
	oddities int             // anomalies, counted each time that one was seen
	guessed  time.Duration   // spent on passwords that did not open
	words    []string        // of the mail, tried as passwords; nil: not looked for yet
	extra    int
	decoded  []Extra // leaves, in case other engines need them
	rare     bool    // what comes now lies where other engines do not look
	handed   []Extra // of those leaves
	hands    int     // their bytes
	topIsOdd bool    // the mail lacks the header by which engines know a mail
	said     collector
	charset  string // of the leaf that comes next
	// Pictures that were searched for codes, and the time that took.
	pictures    int
	pictureTime time.Duration
	unseen      bool                      // there are more, so that nobody remembers this mail as one without codes
	take        func(policy.Part, []byte) // sees every decoded part; may be nil
}

// extraBytes bounds the decoded parts that go back to the gateway.
const extraBytes = 8 << 20

func (s *Worker) walker(data []byte) *walker {
	return &walker{lim: s.Limits, mail: data, match: s.Matcher, inflate: s.Inflate, known: s.known, buffers: &s.buffers, end: time.Now().Add(s.Limits.Time), resp: &Response{}, anomaly: map[string]bool{}}
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
	name := limitOf(err).Error()
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
		w.handed = slices.DeleteFunc(w.handed, func(e Extra) bool {
			return slices.ContainsFunc(w.decoded, func(d Extra) bool { return d.Path == e.Path })
		})
	}
	if w.resp.Extra = append(w.resp.Extra, w.handed...); w.hands > extraBytes {
		w.limit(errTotalLimit)
	}
}

// hand gives a file to the other engines that they do not find by themselves.
func (w *walker) hand(p, name string, data []byte) {
	if w.hands += len(data); w.hands <= extraBytes {
		w.handed = append(w.handed, Extra{Path: p, Name: name, Data: data})
	}
}

// rarely reads a mail where other engines do not look for one.
func (w *walker) rarely(read func() error) error {
	before := w.rare
	w.rare = true
	err := read()
	w.rare = before
	return err
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
	if err := w.part(p, head, body, depth, top); err != nil {
		return err
	}
	others, odd := otherHeads(head, body)
	w.odd(odd)
	for i, o := range others {
		if err := w.reading(o.body); err != nil {
			return err
		}
		if err := w.part(fmt.Sprintf("%s.h%d", p, i+1), o.head, o.body, depth+1, false); err != nil {
			return err
		}
	}
	return nil
}

// reading books one more reading of a body, which costs as much as the body.
func (w *walker) reading(body []byte) error {
	if w.parts++; w.parts > w.lim.Parts {
		return errPartsLimit
	}
	if w.total += int64(len(body)); w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	return w.late()
}

// part reads one entity whose header ends where it is said to.
func (w *walker) part(p string, head, body []byte, depth int, top bool) error {
	h := parseHeader(head)
	if len(h) > maxFields && !w.rare {
		return w.rarely(func() error { return w.part(p, head, body, depth, top) })
	}
	if top {
		if err := w.top(head, h); err != nil {
			return err
		}
	}
	if h.count("content-type") > 1 {
		w.odd("several content-type lines")
	}
	types := contentTypes(h)
	if len(types) > w.lim.Readings {
		return errReadingsLimit
	}
	if !slices.ContainsFunc(types, contentType.multipart) {
		return w.leaf(p, h, types, body, depth)
	}
	if err := w.multiparts(p, h, types, body, depth); err != nil {
		return err
	}
	if single := slices.DeleteFunc(slices.Clone(types), contentType.multipart); len(single) > 0 {
		if err := w.reading(body); err != nil {
			return err
		}
		return w.leaf(p+".s", h, single, body, depth)
	}
	return nil
}

// top reads the header of the mail itself.
func (w *walker) top(head []byte, h header) error {
	w.resp.Header = Header{Subject: decodeWords(h.get("subject")), From: decodeAddresses(h.get("from")), MessageID: strings.Trim(h.get("message-id"), "<> "), Date: h.get("date")}
	w.said.header(h)
	w.topIsOdd = h.get("from") == "" || h.get("received") == "" && h.get("date") == "" && h.get("message-id") == ""
	if h.count("from") > 1 {
		w.odd("several From lines")
	}
	return w.run(head, Vars{Path: "0", Name: "header", ContentType: "text/rfc822-headers"})
}

// leaf decodes one part in each way that it may be read, and looks into it.
func (w *walker) leaf(p string, h header, types []contentType, body []byte, depth int) error {
	names, odd := partNames(h, types)
	if odd {
		w.report("Mailward.Name", "", 3, p, names[0], "an attachment has a name that hides how it ends: "+names[0])
	}
	n := 0
	for _, t := range types {
		ctes, odd := encodings(h, t.kind, body)
		w.odd(odd)
		for _, cte := range ctes {
			all, odd := w.buffers.decodings(cte, body)
			w.odd(odd)
			for _, data := range all {
				if n++; n > w.lim.Readings {
					return errReadingsLimit
				}
				sub := p
				if n > 1 {
					sub = fmt.Sprintf("%s.r%d", p, n-1)
				}
				if cte == "base64" && n == 1 && !strings.HasPrefix(t.kind, "text/") {
					w.cut(p, names[0], body)
				}
				if err := w.decodedLeaf(sub, names, h, t, data, depth); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// decodedLeaf looks at one reading of a part.
func (w *walker) decodedLeaf(p string, names []string, h header, t contentType, data []byte, depth int) error {
	if w.total += int64(len(data)); w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	w.declared(p, names[0], t, data)
	switch t.kind {
	case "message/rfc822", "message/global", "message/news":
		if len(data) == 0 {
			break
		}
		if err := w.entity(p+".1", data, depth+1, false); err != nil || w.onlyMail(names, data) {
			return err
		}
	case "":
		if mail := bytes.TrimLeft(data, "\r\n"); t.line == "" && unsaidMail(mail) {
			if err := w.rarely(func() error { return w.entity(p+".1", mail, depth+1, false) }); err != nil {
				return err
			}
		}
	}
	if t.kind == "" {
		t.kind = "text/plain"
	}
	if text, ok := readable(data, t.params["charset"]); ok {
		if err := w.run(text, Vars{Path: p, Name: names[0], Ext: extension(names[0]), ContentType: t.kind, Depth: depth}); err != nil {
			return err
		}
	}
	if err := w.otherNames(names[1:], data, Vars{Path: p, Ext: extension(names[0]), ContentType: t.kind, Depth: depth}); err != nil {
		return err
	}
	disposition, _, _ := strings.Cut(strings.ToLower(h.get("content-disposition")), ";")
	w.charset = t.params["charset"]
	return w.piece(p, names[0], t.kind, strings.TrimSpace(disposition), data, depth, 0)
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
	if w.take != nil {
		w.take(part, data)
	}
	if archives == 0 {
		if w.extra += len(data); w.extra <= extraBytes {
			w.decoded = append(w.decoded, Extra{Path: p, Name: name, Data: data})
		}
		if w.rare {
			w.hand(p, name, data)
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
	inline := uuParts(data)
	if len(inline) > uuMost {
		return errFilesLimit
	}
	for i, u := range inline {
		if err := w.piece(fmt.Sprintf("%s.u%d", part.Path, i+1), u.name, "application/octet-stream", "attachment", u.data, depth+1, archives); err != nil {
			return err
		}
	}
	if err := w.limited(w.inspect(part, data, depth, archives)); err != nil {
		return err
	}
	opened, err := w.open(part, data, depth, archives)
	if head := opened.matched(); head != nil {
		data = head
	}
	if merr := w.run(data, Vars{Path: part.Path, Name: part.Name, Ext: extension(part.Name), ContentType: part.ContentType, TrueType: part.TrueType, Depth: part.Depth, Archived: archives > 0}); merr != nil {
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
