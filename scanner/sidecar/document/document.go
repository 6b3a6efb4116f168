// Package document looks into files that do more than show something: office
// documents, PDF, shortcuts, notebooks, scripts and web pages.
//
// On a mail's path the sidecar gives it each decoded piece whose true type it
// knows. It says what in the file acts by itself, takes out the files that are
// embedded in it, which the sidecar then looks at like attachments, and reads
// the text and the links that a person would see. It runs nothing and asks
// nobody.
//
// All of it is hostile: every reader here takes broken input as far as it goes,
// as the programs do that open such files, and stops at the limits of the mail.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"mailward/policy"
)

// Bounds of what one file may give.
const (
	maxText     = 1 << 20 // bytes of text
	maxLinks    = 2000
	maxEmbedded = 500
	maxFindings = 50 // of one file; who has more is known well enough
	maxName     = 255
)

// File is what is looked into.
type File struct {
	Name        string // as the mail or the archive has it
	ContentType string // as the mail says, lower case; may be empty
	Type        string // as the bytes say
	Attached    bool   // offered as a file, not shown with the mail
	Data        []byte
}

// ext is the last extension of its name, lower case, without what Windows takes
// off a name's end.
func (f File) ext() string {
	return strings.ToLower(path.Ext(strings.TrimRight(f.Name, ". \t\u00a0")))
}

// Limits bound the work on one file.
type Limits struct {
	Late      func() error    // non-nil once the mail's time is up
	Bytes     int64           // that may be unpacked or decoded
	Passwords func() []string // to try on what is encrypted, beside the usual ones; asked only then
}

// ErrBytes says that more would come out of a file than it may.
var ErrBytes = errors.New("a document in it unpacks to more than it may")

// Embedded is a file in a file.
type Embedded struct {
	Name        string
	ContentType string // where the outer file says one
	Rare        bool   // in a place where scanners do not look
	Data        []byte
}

// Code is a program in clear, for rules to be matched on.
type Code struct {
	Language string // vba, xlm, javascript, vbscript
	Source   []byte
}

// Link is an address that a reader can follow.
type Link struct{ Target, Text string }

// Found is what a file holds.
type Found struct {
	Findings []policy.Finding // without engine and part
	Embedded []Embedded
	Code     []Code
	Links    []Link
	Pictures []Picture // that may show a code
	Text     string
	Locked   string // why it does not open, a sentence; empty where it does
	Bytes    int64  // that were unpacked or decoded
}

// Open looks into a file. The error is that of the limits; what was found
// before it was hit is returned with it. A file of no known type gives nothing.
func Open(f File, lim Limits) (*Found, error) {
	r := newReader(f, lim)
	err := r.guard(func() error {
		r.disguise()
		if read := r.format(); read != nil {
			if err := read(); err != nil {
				return err
			}
		}
		return r.alsoPage()
	})
	return r.done(), err
}

// reader is the look into one file.
type reader struct {
	file File
	lim  Limits
	out  *Found
	text strings.Builder
	sum  map[string]bool // names of findings so far
	seen bool            // as a web page
}

func newReader(f File, lim Limits) *reader {
	if lim.Late == nil {
		lim.Late = func() error { return nil }
	}
	return &reader{file: f, lim: lim, out: &Found{}, sum: map[string]bool{}}
}

func (r *reader) done() *Found {
	r.out.Text = strings.ToValidUTF8(r.text.String(), "\uFFFD")
	return r.out
}

// guard makes a panic of a reader a file that does not open: who sent it may
// have meant just that.
func (r *reader) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.locked("a document in it is so malformed that it cannot be read: %s", r.file.Name)
		}
	}()
	return fn()
}

// alsoPage reads a file as a web page that begins like something else: a browser
// takes what its name says, and shows the rest as text.
func (r *reader) alsoPage() error {
	if !r.seen && (pageExt[r.file.ext()] || isPage(r.file.ContentType)) && len(r.file.Data) >= 4 {
		return r.page()
	}
	return nil
}

// format is the reader for a file, by its bytes first: names lie.
func (r *reader) format() func() error {
	d, ext := r.file.Data, r.file.ext()
	head := bytes.TrimLeft(d[:min(len(d), 1024)], "\xef\xbb\xbf \t\r\n\x00")
	switch {
	case len(d) < 4:
		return nil
	case bytes.HasPrefix(d, cfbMagic):
		return r.ole
	case hasPDF(d):
		return r.pdf
	case bytes.HasPrefix(head, []byte(`{\rt`)):
		return r.rtf
	case bytes.HasPrefix(d, lnkMagic):
		return r.lnk
	case bytes.HasPrefix(d, oneMagic):
		return r.oneNote
	case bytes.HasPrefix(d, []byte("ITSF")):
		return r.chm
	case r.file.Type == "image/svg+xml" || ext == ".svg" || r.file.ContentType == "image/svg+xml":
		return r.svg
	case isPage(r.file.Type) || isPage(r.file.ContentType) || pageExt[ext]:
		return r.page
	case r.file.Type == "text/calendar" || r.file.Type == "text/vcard" || ext == ".ics" || ext == ".vcs" || ext == ".vcf":
		return r.calendar
	case isOfficeXML(d):
		return r.flatXML
	case ext == ".xml" || ext == ".xsl" || ext == ".xslt" || r.file.Type == "text/xml":
		return r.xmlPage
	case bytes.HasPrefix(d, []byte("ActiveMime")):
		return r.activeMime
	default:
		return r.script
	}
}

// isOfficeXML says whether a file is a document of Office in one piece of XML. What
// tells may stand behind a long comment.
func isOfficeXML(b []byte) bool {
	head := bytes.TrimLeft(plainXML(b[:min(len(b), 64<<10)]), "\xef\xbb\xbf\ufeff \t\r\n")
	if !bytes.HasPrefix(head, []byte("<")) || !bytes.Contains(head, []byte("office")) && !bytes.Contains(head, []byte("progid=")) {
		return false // most files, told by two looks and not by six
	}
	return containsAny(head, `progid="Word.Document"`, `progid="Excel.Sheet"`, "schemas.microsoft.com/office/2006/xmlPackage", "schemas.microsoft.com/office/word/2003/wordml", "urn:oasis:names:tc:opendocument:xmlns:office", "urn:schemas-microsoft-com:office:spreadsheet")
}

func (r *reader) late() error { return r.lim.Late() }

// took counts bytes that were made of the file.
func (r *reader) took(n int) error {
	if r.out.Bytes += int64(n); r.out.Bytes > r.lim.Bytes {
		return ErrBytes
	}
	return r.lim.Late()
}

// left is how many bytes may still be made, at most most.
func (r *reader) left(most int) int {
	return int(max(0, min(int64(most), r.lim.Bytes-r.out.Bytes)))
}

// finding notes something once.
func (r *reader) finding(f policy.Finding) {
	if r.sum[f.Name] || len(r.out.Findings) >= maxFindings {
		return
	}
	r.sum[f.Name] = true
	for k, v := range f.Meta {
		f.Meta[k] = clip(v, 500)
	}
	r.out.Findings = append(r.out.Findings, f)
}

// sign notes what only counts together with others. details are keys and values.
func (r *reader) sign(name string, score float64, reason string, details ...string) {
	r.finding(policy.Finding{Name: name, Score: score, Reason: reason, Meta: meta(details)})
}

// suspect notes what no ordinary document does.
func (r *reader) suspect(name string, score float64, reason string, details ...string) {
	r.finding(policy.Finding{Name: name, Class: policy.Suspicious, Score: score, Reason: reason, Meta: meta(details)})
}

func meta(details []string) map[string]string {
	var m map[string]string
	for i := 0; i+1 < len(details); i += 2 {
		if v := strings.TrimSpace(details[i+1]); v != "" {
			if m == nil {
				m = map[string]string{}
			}
			m[details[i]] = v
		}
	}
	return m
}

// locked notes that the file does not open.
func (r *reader) locked(format string, args ...any) {
	if r.out.Locked == "" {
		r.out.Locked = clip(fmt.Sprintf(format, args...), 300)
	}
}

// embed takes out a file.
func (r *reader) embed(name, contentType string, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if len(r.out.Embedded) >= maxEmbedded {
		return ErrBytes
	}
	name = path.Base(strings.ReplaceAll(clip(strings.TrimRight(name, "\x00"), maxName), `\`, "/"))
	if name == "." || name == "/" {
		name = ""
	}
	r.out.Embedded = append(r.out.Embedded, Embedded{Name: name, ContentType: contentType, Data: data})
	return nil
}

// code hands a program on.
func (r *reader) code(language string, source []byte) {
	if len(bytes.TrimSpace(source)) > 0 && len(r.out.Code) < maxEmbedded {
		r.out.Code = append(r.out.Code, Code{language, source})
	}
}

// say adds to the text; a blank or line end goes before it where sep says so.
func (r *reader) say(sep, s string) {
	if s == "" || r.text.Len() >= maxText {
		return
	}
	if r.text.Len() > 0 {
		r.text.WriteString(sep)
	}
	r.text.WriteString(clip(s, maxText-r.text.Len()))
}

// link takes an address that leads out of the document.
func (r *reader) link(target, text string) {
	target = strings.TrimSpace(target)
	if target == "" || len(r.out.Links) >= maxLinks {
		return
	}
	l := Link{clip(target, 4096), clip(text, 4096)}
	if !slices.Contains(r.out.Links[max(0, len(r.out.Links)-20):], l) {
		r.out.Links = append(r.out.Links, l)
	}
}

// clip cuts s to at most n bytes of valid UTF-8 without NUL.
func clip(s string, n int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) > n {
		s = strings.ToValidUTF8(s[:max(0, n)], "")
	}
	return strings.ReplaceAll(s, "\x00", "")
}

// joined lists words, each once, in order.
func joined(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}
