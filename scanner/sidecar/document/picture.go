package document

import "image"

// Bounds of the pictures of one file that are searched for codes.
const (
	maxPictures = 6
	manyPixels  = 4 << 20
)

// Picture is one that a reader of the file sees: a file of a kind that browsers
// show, or its pixels.
type Picture struct {
	File   []byte
	Pixels image.Image
}

// pictures hands on those of a PDF file that may show a code: what is about as wide
// as high, a page that was scanned included. They are not parts of the mail.
func (p *pdf) pictures() error {
	left := manyPixels
	for _, o := range p.objects {
		d := o.dict()
		if o.stream == nil || p.resolve(d["Subtype"]) != pdfName("Image") || len(p.r.out.Pictures) >= maxPictures {
			continue
		}
		w, h := p.int(d["Width"]), p.int(d["Height"])
		if min(w, h) < codeSide || max(w, h) > 3000 || 2*max(w, h) > 3*min(w, h) || w*h > left || int64(w*h) > (p.r.lim.Bytes-p.r.out.Bytes)/16 {
			continue
		}
		left -= w * h
		b, rest, err := p.undone(o)
		if err != nil {
			return err
		}
		if rest == "DCTDecode" || rest == "DCT" {
			p.r.out.Pictures = append(p.r.out.Pictures, Picture{File: b})
		} else if img := p.pixels(d, b, w, h); rest == "" && img != nil {
			p.r.out.Pictures = append(p.r.out.Pictures, Picture{Pixels: img})
		}
	}
	return nil
}

// codeSide is how many modules the smallest code has in a row.
const codeSide = 21

// pixels is a picture that is not packed as one (ISO 32000-1 §8.9.5), in grey; nil:
// it is of a kind that codes do not come in.
func (p *pdf) pixels(d pdfDict, b []byte, w, h int) image.Image {
	bits := p.int(d["BitsPerComponent"])
	if mask, _ := p.resolve(d["ImageMask"]).(bool); mask {
		bits = 1
	}
	n := 1 // values for a pixel
	if bits == 8 {
		n = len(b) / (w * h)
	}
	row := (w*n*bits + 7) / 8
	if bits != 1 && bits != 2 && bits != 4 && bits != 8 || n != 1 && n != 3 && n != 4 || len(b) < row*h {
		return nil
	}
	turned := false
	if a, ok := p.resolve(d["Decode"]).(pdfArray); ok && len(a) > 0 {
		turned = p.int(a[0]) == 1
	}
	shades := p.shades(d["ColorSpace"], bits)
	img := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		line := b[y*row:]
		for x := range w {
			var g byte
			switch n {
			case 3:
				g = grey(line[3*x], line[3*x+1], line[3*x+2])
			case 4: // CMYK
				v := line[4*x : 4*x+4]
				g = byte(255 - min(255, int(v[3])+(int(v[0])+int(v[1])+int(v[2]))/3))
			default:
				g = shades[line[x*bits/8]>>(8-bits-x*bits%8)&(1<<bits-1)]
			}
			if turned {
				g = 255 - g
			}
			img.Pix[y*img.Stride+x] = g
		}
	}
	return img
}

// shades are how light the values of a picture with one value for a pixel are.
func (p *pdf) shades(space any, bits int) []byte {
	out := make([]byte, 1<<bits)
	for i := range out {
		out[i] = byte(i * 255 / (len(out) - 1))
	}
	list, _ := p.resolve(space).(pdfArray)
	if len(list) < 4 || p.resolve(list[0]) != pdfName("Indexed") && p.resolve(list[0]) != pdfName("I") {
		return out
	}
	table := p.str(list[3])
	if o := p.object(list[3]); o != nil && o.stream != nil {
		table, _ = p.decode(o)
	}
	n := len(table) / max(1, p.int(list[2])+1)
	for i := range out {
		switch {
		case n >= 3 && (i+1)*n <= len(table):
			out[i] = grey(table[i*n], table[i*n+1], table[i*n+2])
		case n == 1 && i < len(table):
			out[i] = table[i]
		}
	}
	return out
}

func grey(r, g, b byte) byte {
	return byte((299*int(r) + 587*int(g) + 114*int(b)) / 1000)
}
