package document

import (
	"image"
	"math"
)

// Bounds of the rectangles of a page that may be the modules of a code.
const (
	fewBoxes  = 60
	manyBoxes = 40_000
	codeMost  = 177 // modules of the largest code
	codeRun   = 12  // modules in a row that are drawn as one
)

// drawing follows the dark rectangles of a page of PDF: codes that are no pictures
// are made of them.
type drawing struct {
	state drawState
	saved []drawState
	path  []box
	dark  []box
}

type drawState struct {
	m     [6]float64 // from the numbers of the page to its place
	light bool       // the colour that fills
}

type box struct{ x0, y0, x1, y1 float64 }

func newDrawing() *drawing { return &drawing{state: drawState{m: [6]float64{1, 0, 0, 1, 0, 0}}} }

// op takes an operator (ISO 32000-1 §8.4.4, §8.5).
func (d *drawing) op(w string, args []any) {
	switch w {
	case "q":
		if len(d.saved) < maxPDFDepth {
			d.saved = append(d.saved, d.state)
		}
	case "Q":
		if n := len(d.saved); n > 0 {
			d.state, d.saved = d.saved[n-1], d.saved[:n-1]
		}
	case "cm":
		if v, ok := numbersOf(args, 6); ok {
			m := d.state.m
			d.state.m = [6]float64{v[0]*m[0] + v[1]*m[2], v[0]*m[1] + v[1]*m[3], v[2]*m[0] + v[3]*m[2], v[2]*m[1] + v[3]*m[3], v[4]*m[0] + v[5]*m[2] + m[4], v[4]*m[1] + v[5]*m[3] + m[5]}
		}
	case "g", "rg", "k", "sc", "scn":
		d.colour(args)
	case "re":
		if v, ok := numbersOf(args, 4); ok && len(d.path)+len(d.dark) < manyBoxes {
			d.path = append(d.path, d.point(v[0], v[1]).with(d.point(v[0]+v[2], v[1]+v[3])))
		}
	case "m":
		if v, ok := numbersOf(args, 2); ok && len(d.path)+len(d.dark) < manyBoxes {
			d.path = append(d.path, d.point(v[0], v[1]))
		}
	case "l":
		if v, ok := numbersOf(args, 2); ok && len(d.path) > 0 {
			at := &d.path[len(d.path)-1]
			*at = at.with(d.point(v[0], v[1]))
		}
	case "f", "F", "f*", "B", "B*", "b", "b*":
		if !d.state.light {
			d.dark = append(d.dark, d.path...)
		}
		d.path = d.path[:0]
	case "n", "S", "s":
		d.path = d.path[:0]
	}
}

// numbersOf are the last n operands.
func numbersOf(args []any, n int) (v [6]float64, ok bool) {
	if len(args) < n {
		return v, false
	}
	for i, a := range args[len(args)-n:] {
		if v[i], ok = a.(float64); !ok {
			return v, false
		}
	}
	return v, true
}

// colour takes one of grey, RGB or CMYK.
func (d *drawing) colour(args []any) {
	v, ok := numbersOf(args, min(len(args), 4))
	switch {
	case !ok:
	case len(args) == 1:
		d.state.light = v[0] > 0.5
	case len(args) == 3:
		d.state.light = v[0]+v[1]+v[2] > 1.5
	case len(args) == 4:
		d.state.light = (1-v[3])*(3-v[0]-v[1]-v[2]) > 1.5
	}
}

func (d *drawing) point(x, y float64) box {
	m := d.state.m
	x, y = x*m[0]+y*m[2]+m[4], x*m[1]+y*m[3]+m[5]
	return box{x, y, x, y}
}

func (b box) with(o box) box {
	return box{min(b.x0, o.x0), min(b.y0, o.y0), max(b.x1, o.x1), max(b.y1, o.y1)}
}

func (b box) sides() (short, long float64) {
	w, h := b.x1-b.x0, b.y1-b.y0
	return min(w, h), max(w, h)
}

// code is a picture of the rectangles that are of one size, or some sizes long, where
// they fill a square; nil: they do not.
func (d *drawing) code() image.Image {
	if len(d.dark) < fewBoxes {
		return nil
	}
	const fine = 20 // parts of a point in which sizes are compared
	sizes, common := map[int]int{}, 0
	for _, b := range d.dark {
		short, _ := b.sides()
		n := int(min(short*fine, 1e6))
		if sizes[n]++; n > 0 && sizes[n] > sizes[common] {
			common = n
		}
	}
	module := 0.0
	for _, b := range d.dark {
		if short, _ := b.sides(); int(min(short*fine, 1e6)) == common {
			module += short / float64(sizes[common])
		}
	}
	var in []box
	for _, b := range d.dark {
		if short, long := b.sides(); short > 0.8*module && long < codeRun*module {
			in = append(in, b)
		}
	}
	if common == 0 || len(in) < fewBoxes {
		return nil
	}
	area := in[0]
	for _, b := range in {
		area = area.with(b)
	}
	short, long := area.sides()
	n := int(math.Round(long / module))
	if n < codeSide || n > codeMost || long-short > module {
		return nil
	}
	return gridOf(in, area, n)
}

// gridOf draws rectangles as n modules in a row, with a margin around them.
func gridOf(in []box, area box, n int) image.Image {
	const quiet = 4
	img := image.NewGray(image.Rect(0, 0, n+2*quiet, n+2*quiet))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	step := (area.x1 - area.x0) / float64(n)
	cell := func(v float64) int { return quiet + max(0, min(n, int(math.Round(v/step)))) }
	for _, b := range in {
		for y := cell(area.y1 - b.y1); y < cell(area.y1-b.y0); y++ { // upwards in PDF
			for x := cell(b.x0 - area.x0); x < cell(b.x1-area.x0); x++ {
				img.Pix[y*img.Stride+x] = 0
			}
		}
	}
	return img
}
