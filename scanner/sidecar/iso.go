package sidecar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"strings"
	"unicode/utf16"
)

// Disk images (ECMA-119) have trees of folders: one with short names, and mostly
// a second one with long names (Joliet). Windows shows one, other systems the
// other: both are walked. UDF, which Windows prefers where it is there, is not
// read.

const (
	isoSector  = 2048
	isoFolders = 5000 // folders of one image
	isoNest    = 30
)

var (
	errISO = errors.New("disk image is broken")
	errUDF = errors.New("disk image has a UDF file system")
)

// isoImage is a walk through one image.
type isoImage struct {
	c      *container
	seen   map[uint32]bool // sectors of folders and files
	joliet bool
	tree   map[[2]uint32]bool // sector and size of the files of the tree that is walked
}

func openISO(c *container) error {
	im := isoImage{c: c, seen: map[uint32]bool{}}
	udf, trees := false, 0
	var first map[[2]uint32]bool
	for at := 16 * isoSector; at+isoSector <= len(c.data) && at < 64*isoSector; at += isoSector {
		d := c.data[at : at+isoSector]
		switch {
		case bytes.HasPrefix(d[1:], []byte("NSR0")):
			udf = true
		case bytes.HasPrefix(d[1:], []byte("CD001")) && (d[0] == 1 || d[0] == 2):
			trees++
			im.joliet = d[0] == 2 && d[88] == '%' && d[89] == '/'
			if im.seen[binary.LittleEndian.Uint32(d[158:])] {
				continue // The same tree under another descriptor (ISO 9660:1999).
			}
			im.tree = map[[2]uint32]bool{}
			if err := im.folder(d[156:190], 0); err != nil {
				return err
			}
			if first == nil {
				first = im.tree
			}
			if !maps.Equal(first, im.tree) {
				c.w.odd("a disk image whose trees of folders have different files")
			}
		}
	}
	switch {
	case udf:
		return errUDF
	case trees == 0:
		return errISO
	}
	return nil
}

// extent is what a record points at.
func (im *isoImage) extent(record []byte) (sector uint32, data []byte, err error) {
	sector, size := binary.LittleEndian.Uint32(record[2:]), uint64(binary.LittleEndian.Uint32(record[10:]))
	start := uint64(sector) * isoSector
	if start+size > uint64(len(im.c.data)) {
		return sector, nil, errISO
	}
	return sector, im.c.data[start : start+size], nil
}

// folder looks at the files of a folder, and at the folders in it.
func (im *isoImage) folder(record []byte, depth int) error {
	sector, data, err := im.extent(record)
	if err != nil {
		return err
	}
	if depth > isoNest || len(im.seen) > isoFolders+im.c.w.lim.Files {
		return errFilesLimit
	}
	if im.seen[sector] {
		return nil
	}
	im.seen[sector] = true
	for at := 0; at < len(data); {
		size := int(data[at])
		if size == 0 { // records do not cross sectors
			at = (at/isoSector + 1) * isoSector
			continue
		}
		if size < 34 || at+size > len(data) || 33+int(data[at+32]) > size {
			return errISO
		}
		r := data[at : at+size]
		at += size
		if err := im.entry(r, depth); err != nil {
			return err
		}
	}
	return nil
}

func (im *isoImage) entry(r []byte, depth int) error {
	name := r[33 : 33+int(r[32])]
	if len(name) == 1 && name[0] <= 1 {
		return nil // the folder itself, and the one above
	}
	if r[25]&2 != 0 {
		return im.folder(r, depth+1)
	}
	sector, data, err := im.extent(r)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		im.tree[[2]uint32{sector, uint32(len(data))}] = true
	}
	text := im.name(name)
	if len(data) > 0 && im.seen[sector] {
		// The other tree's name for a file that was looked at.
		return im.c.named(text)
	}
	im.seen[sector] = true
	return im.c.file(text, 0, int64(len(data)), bytes.NewReader(data))
}

func (im *isoImage) name(raw []byte) string {
	text := string(raw)
	if im.joliet {
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(raw[2*i:])
		}
		text = string(utf16.Decode(units))
	}
	text, _, _ = strings.Cut(text, ";")
	return text
}
