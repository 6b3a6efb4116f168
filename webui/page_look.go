package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/internal/aezip"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/quarantine/preview"
	"mailward/scanner"
)

// Looking at a held mail is a ladder of four rights: facts, header, content, and
// the files themselves. From the content on a reason is on record before
// anything is shown.

func (s *pages) registerLook(r router) {
	r.page(http.MethodPost, "/quarantine/:id/view", rightViewBody, audit.ViewBody, s.postView)
	r.page(http.MethodGet, "/quarantine/:id/preview", rightViewBody, audit.ViewBody, s.getPreview)
	r.page(http.MethodPost, "/quarantine/:id/parts/:n", rightDownloadRaw, audit.ViewPart, s.postPart)
	r.page(http.MethodPost, "/quarantine/:id/raw", rightDownloadRaw, audit.RawDownload, s.postRaw)
}

// maxPartRows is how many parts of a mail one page lists.
const maxPartRows = 200

// path is the mail's way, from its Received lines and from what we saw.
func (s *pages) path(it quarantine.Item, fields []headerField) []preview.Hop {
	return pathOf(s.host, it, fields)
}

func pathOf(host string, it quarantine.Item, fields []headerField) []preview.Hop {
	var received []string
	for _, f := range fields {
		if strings.EqualFold(f.Name, "received") {
			received = append(received, f.Value)
		}
	}
	return preview.Path(received, preview.Hop{From: it.Helo, Address: it.ClientIP, By: host, Time: it.ReceivedAt.UTC()})
}

// matching are the header fields that hold what is searched for, in their name,
// as they came or as they read.
func matching(fields []headerField, query string) []headerField {
	q := strings.ToLower(query)
	return slices.DeleteFunc(slices.Clone(fields), func(f headerField) bool {
		return !strings.Contains(strings.ToLower(f.Name+"\n"+f.Value+"\n"+f.Raw), q)
	})
}

// fold cuts a field as it came into its name and the rest, folds and all.
func (f headerField) fold() (name, raw string) {
	name, raw, ok := strings.Cut(f.Raw, ":")
	if !ok {
		return f.Name, f.Value
	}
	return name, strings.Trim(raw, " \t\r\n")
}

// decoded is how a field reads, where that is not how it came.
func (f headerField) decoded() string {
	_, raw := f.fold()
	if strings.Join(strings.Fields(raw), " ") == strings.Join(strings.Fields(f.Value), " ") {
		return ""
	}
	return f.Value
}

// linksOf are the links of a mail, of its HTML and its text.
func linksOf(m mailView) []preview.Link {
	out := slices.Clone(preview.HTML(m.HTML, preview.Options{}).Links)
	for _, l := range preview.TextLinks(m.Text) {
		if !slices.ContainsFunc(out, func(o preview.Link) bool { return o.Target == l.Target }) {
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b preview.Link) int {
		switch {
		case a.Differs == b.Differs:
			return 0
		case a.Differs:
			return -1
		}
		return 1
	})
	return out
}

func previewOptions(m mailView, p lang) preview.Options {
	return preview.Options{Images: imagesOf(m), Say: func(kind, what string) string { return p.T("preview."+kind, what) }}
}

func imagesOf(m mailView) (out []preview.Image) {
	for _, im := range m.Inline {
		out = append(out, preview.Image{CID: im.CID, Data: im.Data})
	}
	return out
}

// removedSentence says what a preview left out.
func removedSentence(p *frame, r preview.Removed) string {
	var parts []string
	for _, x := range []struct {
		key string
		n   int
	}{{"scripts", r.Scripts}, {"forms", r.Forms}, {"frames", r.Frames}, {"objects", r.Objects}, {"images", r.Images}, {"pixels", r.Pixels}, {"fetches", r.Fetches}, {"moves", r.Moves}, {"links", r.Links}} {
		if x.n > 0 {
			parts = append(parts, p.N("removed."+x.key, x.n))
		}
	}
	if len(parts) == 0 {
		return p.T("removed.nothing")
	}
	return p.T("removed.list", strings.Join(parts, ", "))
}

// said is what engines found in one part.
func (v itemView) said(part policy.Part) (out []policy.Finding) {
	for _, f := range v.Findings {
		if f.Part == part.Path && f.Part != "" {
			out = append(out, f)
		}
	}
	return out
}

// silentAbout are the engines that answered and found nothing in a part.
func (v itemView) silentAbout(part policy.Part) string {
	var names []string
	for _, e := range v.Engines {
		if e.Answered && !slices.ContainsFunc(v.said(part), func(f policy.Finding) bool { return f.Engine == e.Engine }) {
			names = append(names, e.Engine)
		}
	}
	return strings.Join(names, ", ")
}

// auditLink leads to everything on record about this mail.
func (v itemView) auditLink() string {
	return "/audit?" + url.Values{"target": {v.ID.String()}, "range": {"all"}}.Encode()
}

func hopTone(h preview.Hop) string {
	switch {
	case slices.Contains(h.Signs, preview.SignOurName), slices.Contains(h.Signs, preview.SignFuture), slices.Contains(h.Signs, preview.SignHelo):
		return "crit"
	case len(h.Signs) > 0:
		return "warn"
	case h.Ours:
		return "ok"
	}
	return "none"
}

// delay is the time that a station took, with a sign where clocks disagree.
func delay(p *frame, h preview.Hop) string {
	if h.DelaySeconds == nil {
		return ""
	}
	d := time.Duration(*h.DelaySeconds) * time.Second
	if d < 0 {
		return "−" + p.Span(-d)
	}
	return "+" + p.Span(d)
}

// partOf finds a part by its number in the list, from 1.
func partOf(it quarantine.Item, number string) (policy.Part, bool) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(it.Parts) || it.Parts[n-1].SHA256 == "" {
		return policy.Part{}, false
	}
	return it.Parts[n-1], true
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// safeName is a stranger's file name as one that no program misreads: no
// folders, no control characters, nothing that turns it around.
func safeName(part policy.Part) string {
	name := strings.Trim(unsafeName.ReplaceAllString(part.Name, "_"), "._")
	if name = name[:min(len(name), 80)]; name == "" {
		name = "file"
	}
	return "part-" + unsafeName.ReplaceAllString(part.Path, "_") + "-" + name
}

// purposeInput reads why somebody wants content.
func purposeInput(c echo.Context) (purpose, reason string, ok bool) {
	purpose = c.FormValue("purpose")
	return purpose, short(c.FormValue("reason")), slices.Contains(purposes, purpose)
}

// postPart hands out one file of a mail, in a zip that nothing opens by mistake.
func (s *pages) postPart(c echo.Context) error {
	id, err := paramID(c)
	if err != nil {
		return s.failure(c, err)
	}
	it, err := s.item(c, id, rightDownloadRaw)
	if err != nil {
		return s.failure(c, err)
	}
	part, ok := partOf(it, c.Param("n"))
	if !ok {
		return s.fail(c, http.StatusNotFound, nil)
	}
	purpose, reason, ok := purposeInput(c)
	if !ok {
		return s.done(c, "", "/quarantine/"+it.ID.String()+"?tab=parts")
	}
	if _, wrong, err := s.attest(c); err != nil {
		return s.failure(c, err)
	} else if wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, actForm{Wrong: wrong}, "part-"+c.Param("n"))
	}
	ctx := c.Request().Context() // with the signature
	ev, err := s.begin(ctx, partEvent(lookEvent(s.person(c).Actor, s.person(c).Roles, audit.ViewPart, it), part), purpose, reason)
	if err != nil {
		return s.failure(c, err)
	}
	data, err := s.part(ctx, it, part.SHA256)
	if err == nil {
		data, err = aezip.Pack(safeName(part), data, it.ReceivedAt)
	}
	s.ended(ctx, ev, "part", err)
	switch {
	case errors.Is(err, scanner.ErrNoPart):
		return s.fail(c, http.StatusGone, err)
	case errors.Is(err, scanner.ErrUnavailable):
		return s.fail(c, http.StatusServiceUnavailable, err)
	case err != nil:
		return s.failure(c, fmt.Errorf("take part %s out of %s: %w", part.Path, it.MailID, err))
	}
	return attachment(c, part.SHA256+".zip", data)
}

// part reads one file of a mail.
func (s *pages) part(ctx context.Context, it quarantine.Item, sum string) ([]byte, error) {
	raw, err := s.held.Raw(ctx, it)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	return s.opener.Part(ctx, raw, sum)
}

func attachment(c echo.Context, name string, data []byte) error {
	c.Response().Header().Set(echo.HeaderContentDisposition, `attachment; filename="`+name+`"`)
	return c.Blob(http.StatusOK, "application/zip", data)
}

// postRaw hands out the mail as it came, in a zip that nothing opens by mistake.
func (s *pages) postRaw(c echo.Context) error {
	it, form, err := s.actInput(c, rightDownloadRaw)
	if err != nil {
		return s.failure(c, err)
	}
	purpose, _, ok := purposeInput(c)
	if form.Wrong == "" && !ok {
		form.Wrong = "act.wrong.purpose"
	}
	if form.Wrong == "" {
		if _, form.Wrong, err = s.attest(c); err != nil {
			return s.failure(c, err)
		}
	}
	if form.Wrong != "" {
		return s.showItem(c, http.StatusUnprocessableEntity, form, "raw")
	}
	ctx := c.Request().Context()
	raw, err := s.held.Raw(ctx, it)
	if err != nil {
		return s.failure(c, err)
	}
	defer raw.Close()
	ev, err := s.begin(ctx, lookEvent(s.person(c).Actor, s.person(c).Roles, audit.RawDownload, it), purpose, form.Reason)
	if err != nil {
		return s.failure(c, err)
	}
	data, err := s.opener.Zip(ctx, it.MailID.String()+".eml", raw, it.ReceivedAt)
	s.ended(ctx, ev, "raw", err)
	if err != nil {
		return s.failure(c, fmt.Errorf("pack mail %s: %w", it.MailID, err))
	}
	return attachment(c, it.MailID.String()+".zip", data)
}
