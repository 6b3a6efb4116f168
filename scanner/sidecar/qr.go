package sidecar

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"

	"mailward/scanner/content"
)

// Bounds of the search for QR codes. A code that a telephone can read from a
// screen is well within them; a photograph of a camera is not, and is left out.
const (
	codePictures = 8        // of one mail
	codeBytes    = 1 << 20  // of one picture
	codePixels   = 5 << 19  // of one picture: a page of 150 dots an inch
	codeSimple   = 9 << 20  // of one that says little for its size, as a large code does
	codeSmall    = 64 << 10 // pixels of what is looked at beside the others, as logos are
	codeShown    = 1500     // pixels of a side that are enough to read a code
	codeSide     = 40       // pixels, at least
	codeScans    = 12       // of one progressive JPEG
	codeTime     = 400 * time.Millisecond
	codeModules  = 21  // the smallest code has so many in a row
	codeGrid     = 180 // and the biggest 177
)

// readPicture looks for a QR code in a picture.
func (w *walker) readPicture(part string, data []byte) {
	if len(data) > codeBytes {
		return
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	pixels := cfg.Width * cfg.Height
	if err != nil || pixels > codePixels && len(data) > pixels/24 {
		return
	}
	w.readCode(part, cfg.Width, cfg.Height, func() (image.Image, bool) { return decodePicture(data) })
}

// readPixels looks for a QR code in the pixels of a picture.
func (w *walker) readPixels(part string, img image.Image) {
	b := img.Bounds()
	if min(b.Dx(), b.Dy()) <= codeGrid+8 {
		img = enlarged{img}
		b = img.Bounds()
	}
	w.readCode(part, b.Dx(), b.Dy(), func() (image.Image, bool) { return img, true })
}

// readCode looks for a QR code in a picture of some size.
func (w *walker) readCode(part string, width, height int, open func() (image.Image, bool)) {
	pixels := width * height
	if pixels > codeSimple || min(width, height) < codeSide || max(width, height) > 6*min(width, height) {
		return
	}
	if w.pictures >= codePictures || w.pictureTime > codeTime {
		w.unseen = true
		return
	}
	if pixels > codeSmall {
		w.pictures++
	}
	begin := time.Now()
	defer func() { w.pictureTime += time.Since(begin) }()
	img, ok := open()
	if !ok {
		return
	}
	if pixels > codePixels {
		img = thinned{img, 1 + max(width, height)/codeShown}
	}
	if !twoTone(img) {
		return
	}
	texts, err := decodeCodes(img)
	if len(texts) == 0 && darkRim(img) {
		texts, err = decodeCodes(negative{img})
	}
	if errors.Is(err, errMarks) {
		// A sign only: a photograph of leaves or water may look so, too.
		w.report("Mailward.Codes", "", 1, part, "", "a picture in it has so many marks of QR codes that it was not searched for one")
	}
	for _, text := range texts {
		w.addCode(part, text)
	}
}

// addCode takes what a code says: an address, or a card or network with one in it.
func (w *walker) addCode(part, text string) {
	w.addLink(content.Link{Part: part, Kind: content.LinkCode, Target: text})
	if !hasPrefixFold(text, "http") {
		plainLinks(text, func(target string) { w.addLink(content.Link{Part: part, Kind: content.LinkCode, Target: target}) })
	}
}

// thinned is every nth pixel of a picture.
type thinned struct {
	image.Image
	n int
}

func (t thinned) Bounds() image.Rectangle {
	b := t.Image.Bounds()
	return image.Rect(0, 0, b.Dx()/t.n, b.Dy()/t.n)
}

func (t thinned) At(x, y int) color.Color {
	from := t.Image.Bounds().Min
	return t.Image.At(from.X+x*t.n, from.Y+y*t.n)
}

// enlarged is a picture with four pixels in a row for each of its own: codes have one
// for a module where a page shows them larger.
type enlarged struct{ image.Image }

const enlargedBy = 4

func (e enlarged) Bounds() image.Rectangle {
	b := e.Image.Bounds()
	return image.Rect(0, 0, b.Dx()*enlargedBy, b.Dy()*enlargedBy)
}

func (e enlarged) At(x, y int) color.Color {
	from := e.Image.Bounds().Min
	return e.Image.At(from.X+x/enlargedBy, from.Y+y/enlargedBy)
}

// negative is a picture with dark and light swapped.
type negative struct{ image.Image }

func (n negative) At(x, y int) color.Color { return color.Gray{Y: 0xff - lightness(n.Image.At(x, y))} }

// lightness is how light a colour is on white, where mail clients show pictures: what
// is transparent is white.
func lightness(c color.Color) uint8 {
	r, g, b, a := c.RGBA()
	return uint8(((19595*r+38470*g+7471*b)>>16 + 0xffff - a) >> 8)
}

// darkRim says whether a picture is dark at its corners, as a code is that is light
// on dark.
func darkRim(img image.Image) bool {
	b := img.Bounds().Inset(1)
	dark := 0
	for _, at := range [...]image.Point{b.Min, {X: b.Max.X - 1, Y: b.Min.Y}, {X: b.Min.X, Y: b.Max.Y - 1}, b.Max.Sub(image.Pt(1, 1))} {
		if lightness(img.At(at.X, at.Y)) < 90 {
			dark++
		}
	}
	return dark >= 3
}

// decodePicture reads the kinds of pictures that every mail client shows.
func decodePicture(data []byte) (img image.Image, ok bool) {
	r := bytes.NewReader(data)
	err := guard(func() (err error) {
		switch {
		case bytes.HasPrefix(data, []byte("\x89PNG")):
			img, err = png.Decode(r)
		case bytes.HasPrefix(data, []byte("GIF8")):
			img, err = gif.Decode(r)
		case bytes.HasPrefix(data, []byte("BM")):
			img, err = bmp.Decode(r)
		case bytes.HasPrefix(data, []byte("RIFF")):
			img, err = webp.Decode(r)
		case bytes.Count(data, []byte{0xff, 0xda}) <= codeScans: // More are there to cost time.
			img, err = jpeg.Decode(r)
		}
		return err
	})
	return img, err == nil && img != nil
}

// twoTone says whether a picture is mostly dark and light, as codes are. It
// spares the search in photographs.
func twoTone(img image.Image) bool {
	b := img.Bounds()
	extreme, all, dark := 0, 0, 0
	for y := range 48 {
		for x := range 48 {
			g := lightness(img.At(b.Min.X+(2*x+1)*b.Dx()/96, b.Min.Y+(2*y+1)*b.Dy()/96))
			all++
			if g < 90 || g > 165 {
				extreme++
			}
			if g < 128 {
				dark++
			}
		}
	}
	return extreme*10 >= all*6 && dark*100 >= all*3 && dark*100 <= all*95
}

// errMarks means that a picture was not searched.
var errMarks = errors.New("too many marks of codes in a picture")

// decodeCodes reads the QR codes in a picture; mostly there is none, or one.
func decodeCodes(img image.Image) (texts []string, err error) {
	err = guard(func() error {
		for range someCodes {
			bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
			if err != nil {
				return err
			}
			matrix, err := bitmap.GetBlackMatrix()
			if err != nil {
				return err
			}
			marks := finderMarks(matrix, manyMarks)
			if marks > manyMarks {
				return errMarks
			}
			if marks < marksOfCode {
				return nil
			}
			result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
			if err != nil {
				return err
			}
			if text := strings.TrimSpace(result.GetText()); text != "" && utf8.ValidString(text) {
				texts = add(texts, text)
			}
			if marks < 2*marksOfCode {
				return nil
			}
			img = without{img, around(result.GetResultPoints()).Add(img.Bounds().Min)}
		}
		return nil
	})
	return texts, err
}

// without is a picture in which a code that was read is white.
type without struct {
	image.Image
	hole image.Rectangle
}

func (w without) At(x, y int) color.Color {
	if image.Pt(x, y).In(w.hole) {
		return color.White
	}
	return w.Image.At(x, y)
}

// around is where the marks of a code are, and a bit more, so that none is left of
// them.
func around(points []gozxing.ResultPoint) (r image.Rectangle) {
	for _, p := range points {
		r = r.Union(image.Rect(int(p.GetX()), int(p.GetY()), int(p.GetX())+1, int(p.GetY())+1))
	}
	return r.Inset(-max(r.Dx(), r.Dy()) / 10)
}

// decodeCode reads one QR code in a picture.
func decodeCode(img image.Image) (text string, ok bool) {
	texts, _ := decodeCodes(img)
	if len(texts) == 0 {
		return "", false
	}
	return texts[0], true
}

// grid is a table whose cells are seen as the modules of a code.
type grid struct{ rows [][]bool }

func (g *grid) row() {
	if len(g.rows) <= codeGrid {
		g.rows = append(g.rows, nil)
	}
}

func (g *grid) cell(ground int, span string) {
	if len(g.rows) == 0 || len(g.rows) > codeGrid {
		return
	}
	n := 1
	if span != "" { // which it seldom is, and an error costs more than all else here
		if v, err := strconv.Atoi(span); err == nil {
			n = max(v, 1)
		}
	}
	last := &g.rows[len(g.rows)-1]
	for range min(n, codeGrid-len(*last)) {
		*last = append(*last, ground >= 0 && ground>>16&0xff+ground>>8&0xff+ground&0xff < 384)
	}
}

// code reads the table as a QR code.
func (g *grid) code() (string, bool) { return drawn(g.rows) }

// drawn reads dark and light modules as a QR code.
func drawn(rows [][]bool) (string, bool) {
	wide, dark := 0, 0
	for _, r := range rows {
		wide = max(wide, len(r))
		for _, d := range r {
			if d {
				dark++
			}
		}
	}
	if len(rows) < codeModules || len(rows) > codeGrid || wide < codeModules || wide > codeGrid || dark < len(rows)*wide/5 {
		return "", false
	}
	const scale, quiet = 4, 4
	img := image.NewGray(image.Rect(0, 0, (wide+2*quiet)*scale, (len(rows)+2*quiet)*scale))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	for y, r := range rows {
		for x, d := range r {
			if !d {
				continue
			}
			for dy := range scale {
				at := ((y+quiet)*scale+dy)*img.Stride + (x+quiet)*scale
				for dx := range scale {
					img.Pix[at+dx] = 0
				}
			}
		}
	}
	return decodeCode(img)
}

// squares are as wide as high, which two characters are.
var squares = strings.NewReplacer("⬛", "██", "■", "██", "◼", "██", "⬜", "  ", "□", "  ", "◻", "  ", "\ufe0f", "", "\u3000", "  ")

// drawnCode reads a QR code that is drawn with block characters: two modules a
// character with half blocks, or two characters a module with whole ones.
func drawnCode(text string) (string, bool) {
	if strings.Contains(text, "⬛") || strings.Contains(text, "■") || strings.Contains(text, "◼") {
		text = squares.Replace(text)
	}
	if !strings.Contains(text, "█") && !strings.Contains(text, "▀") && !strings.Contains(text, "▄") {
		return "", false
	}
	var half, whole [][]bool
	for line := range strings.Lines(text) {
		if len(half) > 2*codeGrid {
			break
		}
		var up, down, both []bool
		blocks := 0
		for _, r := range strings.TrimRight(line, "\r\n") {
			u, d := r == '█' || r == '▀', r == '█' || r == '▄'
			if u || d {
				blocks++
			}
			if len(up) < 2*codeGrid {
				up, down = append(up, u), append(down, d)
				if len(up)%2 == 1 {
					both = append(both, r == '█')
				}
			}
		}
		if blocks > 0 || len(half) > 0 {
			half, whole = append(half, up, down), append(whole, both)
		}
	}
	for _, rows := range [][][]bool{half, inverted(half), whole, inverted(whole)} {
		if s, ok := drawn(rows); ok {
			return s, true
		}
	}
	return "", false
}

// inverted swaps dark and light: terminals draw codes light on dark.
func inverted(rows [][]bool) [][]bool {
	out := make([][]bool, len(rows))
	for i, r := range rows {
		out[i] = make([]bool, len(r))
		for j, d := range r {
			out[i][j] = !d
		}
	}
	return out
}
