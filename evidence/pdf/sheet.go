package pdf

import (
	"cmp"
	"embed"
	"fmt"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
	"github.com/BurntSushi/toml"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
)

// How the pages look.
const (
	pageWidth = 210.0
	margin    = 18.0
	width     = pageWidth - 2*margin
	labels    = 42.0 // width of the column of labels
)

type colour [3]int

var (
	strong = colour{20, 27, 41}
	soft   = colour{92, 102, 118}
	accent = colour{30, 74, 140}
	danger = colour{168, 28, 36}
)

//go:embed locales/*.toml
var localeFiles embed.FS

// words are the texts of one language.
type words map[string]string

func loadWords(lang string) (words, error) {
	w := words{}
	b, err := localeFiles.ReadFile("locales/" + lang + ".toml")
	if err != nil {
		return nil, fmt.Errorf("pdf: no texts in the language %q", lang)
	}
	if err := toml.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("read texts of the report: %w", err)
	}
	return w, nil
}

// Words gives the texts of a language to who fills in a document.
func Words(lang string) func(key string) string {
	w, err := loadWords(lang)
	return func(key string) string {
		if s, ok := w[key]; err == nil && ok {
			return s
		}
		return key
	}
}

// t is a text. Numbers and foreign text are arguments.
func (r *report) t(key string, args ...any) string {
	s, ok := r.words[key]
	if !ok {
		return key
	}
	if len(args) == 0 {
		return s
	}
	return fmt.Sprintf(s, args...)
}

// word is the text for a value of the record, or the value where there is none.
func (r *report) word(group, value string) string {
	return cmp.Or(r.words[group+"."+value], r.clean(value))
}

func (r *report) time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

func addFonts(f *fpdf.Fpdf) {
	f.AddUTF8FontFromBytes("go", "", goregular.TTF)
	f.AddUTF8FontFromBytes("go", "B", gobold.TTF)
	f.AddUTF8FontFromBytes("mono", "", gomono.TTF)
	f.AddUTF8FontFromBytes("mono", "B", gomonobold.TTF)
}

func (r *report) font(style string, size float64) { r.SetFont("go", style, size) }
func (r *report) mono(size float64)               { r.SetFont("mono", "", size) }
func (r *report) ink(c colour)                    { r.SetTextColor(c[0], c[1], c[2]) }

// coverage says which characters the fonts can show.
type coverage struct {
	fonts []*sfnt.Font
	buf   *sfnt.Buffer
	known map[rune]bool
}

func newCoverage() (coverage, error) {
	c := coverage{buf: &sfnt.Buffer{}, known: map[rune]bool{}}
	for _, b := range [][]byte{goregular.TTF, gobold.TTF, gomono.TTF} {
		f, err := sfnt.Parse(b)
		if err != nil {
			return c, fmt.Errorf("read font: %w", err)
		}
		c.fonts = append(c.fonts, f)
	}
	return c, nil
}

func (c coverage) has(r rune) bool {
	if ok, is := c.known[r]; is {
		return ok
	}
	ok := r <= 0xFFFF
	for _, f := range c.fonts {
		i, err := f.GlyphIndex(c.buf, r)
		ok = ok && err == nil && i != 0
	}
	c.known[r] = ok
	return ok
}

// clean makes foreign text what can be printed: what is invisible, what turns the
// direction round and what no font here has stands there as its number, so that
// nobody reads something else than what is there. Lines stay.
func (r *report) clean(s string) string {
	var b strings.Builder
	for _, c := range strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\uFFFD") {
		switch {
		case c == '\n':
			b.WriteByte('\n')
		case c == '\t':
			b.WriteString("    ")
		case c == ' ' || unicode.IsGraphic(c) && !unicode.Is(unicode.Zs, c) && !unicode.Is(unicode.Cf, c) && r.glyph.has(c):
			b.WriteRune(c)
		case c == '\u00a0':
			b.WriteByte(' ')
		default:
			fmt.Fprintf(&b, "‹U+%04X›", c)
		}
	}
	return b.String()
}

// line is foreign text in one line, cut.
func (r *report) line(s string, limit int) string {
	s = strings.Join(strings.Fields(r.clean(s)), " ")
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}

func (r *report) heading(text string) {
	r.room(24)
	r.Ln(4)
	r.font("B", 13)
	r.ink(accent)
	r.MultiCell(width, 6, text, "", "L", false)
	r.SetDrawColor(accent[0], accent[1], accent[2])
	r.SetLineWidth(0.3)
	r.Line(margin, r.GetY()+0.8, pageWidth-margin, r.GetY()+0.8)
	r.Ln(3)
	r.Bookmark(text, 0, -1)
	r.body()
}

func (r *report) body() {
	r.font("", 9.5)
	r.ink(strong)
}

// room begins a page where less than h is left of this one.
func (r *report) room(h float64) {
	if _, height := r.GetPageSize(); r.GetY()+h > height-24 {
		r.AddPage()
	}
}

func (r *report) para(text string) {
	r.body()
	r.MultiCell(width, 5, text, "", "L", false)
	r.Ln(1)
}

func (r *report) note(text string) {
	r.font("", 8.5)
	r.ink(soft)
	r.MultiCell(width, 4.4, text, "", "L", false)
	r.Ln(1)
	r.body()
}

// row is a label with its value.
func (r *report) row(label, value string) {
	if value == "" {
		value = "–"
	}
	r.pair(label, value, func() { r.body() }, 5)
}

// code is a label with a value in which every character counts.
func (r *report) code(label, value string) {
	r.pair(label, value, func() { r.mono(8.4); r.ink(strong) }, 4.6)
}

func (r *report) pair(label, value string, style func(), h float64) {
	r.room(2 * h)
	page, y := r.PageNo(), r.GetY()
	r.font("", 8.5)
	r.ink(soft)
	r.SetXY(margin, y)
	r.MultiCell(labels-2, h, label, "", "L", false)
	after, same := r.GetY(), r.PageNo() == page
	r.SetXY(margin+labels, y)
	style()
	r.SetLeftMargin(margin + labels)
	r.MultiCell(width-labels, h, value, "", "L", false)
	r.SetLeftMargin(margin)
	if same && r.PageNo() == page {
		r.SetY(max(after, r.GetY()))
	}
	r.SetX(margin)
	r.Ln(0.6)
}

// column is one of a table.
type column struct {
	title string
	width float64
	mono  bool
}

// table writes rows that may have several lines, with its head on each page.
func (r *report) table(cols []column, rows [][]string) {
	if len(rows) == 0 {
		r.para(r.t("none"))
		return
	}
	head := func() {
		r.font("B", 8)
		r.ink(strong)
		r.SetFillColor(232, 236, 243)
		for _, c := range cols {
			r.CellFormat(c.width, 6, c.title, "", 0, "L", true, 0, "")
		}
		r.Ln(6.5)
	}
	r.room(22)
	head()
	_, bottom := r.GetPageSize()
	for _, cells := range rows {
		lines, most := make([][]string, len(cols)), 1
		for i, c := range cols {
			r.cell(c)
			lines[i] = r.SplitText(cells[i], c.width-1.5)
			most = max(most, len(lines[i]))
		}
		for n := range most { // line by line: a row may be longer than a page
			if r.GetY()+4.2 > bottom-24 {
				r.AddPage()
				head()
			}
			for i, c := range cols {
				r.cell(c)
				text := ""
				if n < len(lines[i]) {
					text = lines[i][n]
				}
				r.CellFormat(c.width, 4.2, text, "", 0, "L", false, 0, "")
			}
			r.Ln(4.2)
		}
		r.SetDrawColor(222, 226, 233)
		r.SetLineWidth(0.1)
		r.Line(margin, r.GetY()+0.5, pageWidth-margin, r.GetY()+0.5)
		r.Ln(1.2)
	}
	r.Ln(1)
	r.body()
}

func (r *report) cell(c column) {
	r.ink(strong)
	if c.mono {
		r.mono(7.4)
		return
	}
	r.font("", 8.2)
}

// qr draws a QR code of text.
func (r *report) qr(text string, x, y, size float64) {
	m, err := qrcode.NewQRCodeWriter().Encode(text, gozxing.BarcodeFormat_QR_CODE, 0, 0, map[gozxing.EncodeHintType]any{gozxing.EncodeHintType_MARGIN: 0})
	if err != nil {
		r.SetError(fmt.Errorf("make QR code: %w", err))
		return
	}
	step := size / float64(m.GetWidth())
	r.SetFillColor(0, 0, 0)
	for i := range m.GetWidth() {
		for j := range m.GetHeight() {
			if m.Get(i, j) {
				r.Rect(x+float64(i)*step, y+float64(j)*step, step*1.02, step*1.02, "F")
			}
		}
	}
}
