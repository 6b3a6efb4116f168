package sidecar

import (
	"math"

	"github.com/makiuchi-d/gozxing"
)

// Bounds of the marks at the corners of codes in one picture. The library compares
// each three of them, so that a picture that is full of them would cost it hours.
const (
	marksOfCode = 3
	someCodes   = 4   // in one picture
	manyMarks   = 800 // from here on nobody searches: it would take over a tenth of a second
)

// finderMarks counts what looks like the mark at the corner of a code: dark and light
// as 1:1:3:1:1, across and down. It is no stricter than the library, and ends at one
// more than most.
func finderMarks(m *gozxing.BitMatrix, most int) int {
	type mark struct{ x, y, size int }
	var marks []mark
	known := func(n mark) bool {
		for _, k := range marks {
			if max(k.x-n.x, n.x-k.x) <= k.size && max(k.y-n.y, n.y-k.y) <= k.size {
				return true
			}
		}
		return false
	}
	for y := range m.GetHeight() {
		var runs [5]int // the last ones of the row
		length, dark := 0, false
		for x := 0; x <= m.GetWidth(); x++ {
			bit := x < m.GetWidth() && m.Get(x, y)
			if x < m.GetWidth() && bit == dark {
				length++
				continue
			}
			copy(runs[:], runs[1:])
			runs[4] = length
			if dark && crosses(runs) {
				n := mark{x - runs[4] - runs[3] - (runs[2]+1)/2, y, max(1, (runs[0]+runs[1]+runs[2]+runs[3]+runs[4])/7)}
				if crossesDown(m, n.x, y, 2*runs[2]+2) && !known(n) {
					if marks = append(marks, n); len(marks) > most {
						return len(marks)
					}
				}
			}
			length, dark = 1, bit
		}
	}
	return len(marks)
}

// crosses says whether five runs are those of a mark.
func crosses(runs [5]int) bool {
	total := 0
	for _, n := range runs {
		if n == 0 {
			return false
		}
		total += n
	}
	module := float64(total) / 7
	for i, n := range runs {
		want := module
		if i == 2 {
			want = 3 * module
		}
		if math.Abs(want-float64(n)) >= want/2 {
			return false
		}
	}
	return total >= 7
}

// crossesDown looks at the column through the middle of a mark.
func crossesDown(m *gozxing.BitMatrix, x, y, most int) bool {
	var runs [5]int
	count := func(y, step int, order ...int) {
		for i, run := range order {
			dark := i != 1
			for y >= 0 && y < m.GetHeight() && m.Get(x, y) == dark && runs[run] <= most {
				runs[run]++
				y += step
			}
		}
	}
	count(y, -1, 2, 1, 0)
	count(y+1, 1, 2, 3, 4)
	return crosses(runs)
}
