package sidecar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// Files of old Macs have two forks, the data and the resource fork. Four wrappers
// carry both through mail: BinHex 4.0 (RFC 1741), MacBinary, AppleSingle and
// AppleDouble (RFC 1740). Mail clients of Apple unwrap them without asking.

var (
	errMac       = errors.New("file of a Mac is broken")
	binhexBanner = []byte("(This file must be converted with BinHex")
)

const (
	binhexLetters = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
	binhexHead    = 64 << 10 // of a text, where the banner is looked for
	binhexRepeat  = 0x90
)

// looksBinHex says whether a text has the line that announces BinHex.
func looksBinHex(name string, data []byte) bool {
	return extension(name) == ".hqx" || bytes.Contains(data[:min(len(data), binhexHead)], binhexBanner)
}

// openBinHex reads a BinHex file. A text that has only the announcing line is none.
func openBinHex(c *container) error {
	none := error(nil)
	if extension(c.name) == ".hqx" {
		none = errMac
	}
	text := c.data
	if i := bytes.Index(text, binhexBanner); i >= 0 {
		text = text[i+len(binhexBanner):]
	}
	start := bytes.IndexByte(text, ':')
	if start < 0 {
		return none
	}
	b, err := binhexDecode(c.w, text[start+1:])
	if err != nil {
		return err
	}
	const rest = 1 + 4 + 4 + 2 + 4 + 4 + 2 // behind the name
	if len(b) < 1+rest || len(b) < 1+int(b[0])+rest {
		return none
	}
	end := 1 + int(b[0]) + rest
	if none == nil && crcXModem(b[:end-2]) != binary.BigEndian.Uint16(b[end-2:]) {
		return nil
	}
	size, resources := int64(binary.BigEndian.Uint32(b[end-10:])), int64(binary.BigEndian.Uint32(b[end-6:]))
	return c.forks(string(b[1:1+b[0]]), b, int64(end), size, int64(end)+size+2, resources)
}

// binhexDecode undoes the letters and the runs.
func binhexDecode(w *walker, text []byte) ([]byte, error) {
	var out []byte
	most := w.lim.TotalBytes - w.total
	var bits uint32
	have, run := 0, false
	for i, c := range text {
		if i%(64<<10) == 0 {
			if err := w.late(); err != nil {
				return nil, err
			}
		}
		v := strings.IndexByte(binhexLetters, c)
		if c == ':' {
			break
		}
		if v < 0 {
			continue
		}
		bits, have = bits<<6|uint32(v), have+6
		if have < 8 {
			continue
		}
		have -= 8
		b := byte(bits >> have)
		switch {
		case run && b == 0:
			out, run = append(out, binhexRepeat), false
		case run:
			if len(out) > 0 {
				out = append(out, bytes.Repeat(out[len(out)-1:], int(b)-1)...)
			}
			run = false
		case b == binhexRepeat:
			run = true
		default:
			out = append(out, b)
		}
		if int64(len(out)) > most {
			return nil, errTotalLimit
		}
	}
	return out, nil
}

// crcXModem is the checksum of BinHex and MacBinary II.
func crcXModem(b []byte) (crc uint16) {
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

const macHead = 128

// looksMacBinary goes by the checksum of MacBinary II, the mark of III, or, for
// the first version, which has neither, by the sizes.
func looksMacBinary(d []byte) bool {
	if len(d) <= macHead || d[0] != 0 || d[1] == 0 || d[1] > 63 || d[74] != 0 || d[82] != 0 {
		return false
	}
	if string(d[102:106]) == "mBIN" || crcXModem(d[:124]) == binary.BigEndian.Uint16(d[124:]) {
		return true
	}
	size, resources := macSizes(d)
	return len(bytes.Trim(d[99:macHead], "\x00")) == 0 && size+resources > 0 && macHead+macPadded(size)+macPadded(resources) == int64(len(d))
}

func macSizes(d []byte) (size, resources int64) {
	return int64(binary.BigEndian.Uint32(d[83:])), int64(binary.BigEndian.Uint32(d[87:]))
}

func macPadded(n int64) int64 { return (n + macHead - 1) / macHead * macHead }

func openMacBinary(c *container) error {
	size, resources := macSizes(c.data)
	second := macPadded(int64(binary.BigEndian.Uint16(c.data[120:])))
	at := macHead + second
	return c.forks(string(c.data[2:2+c.data[1]]), c.data, at, size, at+macPadded(size), resources)
}

// openAppleSingle reads AppleSingle and AppleDouble, which are lists of entries.
func openAppleSingle(c *container) error {
	const head, entry = 26, 12
	if len(c.data) < head {
		return errMac
	}
	at := map[uint32][2]int64{}
	n := int(binary.BigEndian.Uint16(c.data[24:]))
	for e := c.data[head:]; n > 0 && len(e) >= entry; n, e = n-1, e[entry:] {
		id := binary.BigEndian.Uint32(e)
		if _, twice := at[id]; twice && id <= 2 {
			return errMac
		}
		at[id] = [2]int64{int64(binary.BigEndian.Uint32(e[4:])), int64(binary.BigEndian.Uint32(e[8:]))}
	}
	if n > 0 {
		return errMac
	}
	name, _ := macFork(c.data, at[3][0], at[3][1])
	return c.forks(string(name[:min(len(name), 255)]), c.data, at[1][0], at[1][1], at[2][0], at[2][1])
}

// macFork is a fork as far as it goes.
func macFork(b []byte, at, size int64) (fork []byte, whole bool) {
	at = min(at, int64(len(b)))
	end := min(at+size, int64(len(b)))
	return b[at:end], end-at == size
}

// forks looks at both forks of a file.
func (c *container) forks(name string, b []byte, data, size, resources, resourceSize int64) error {
	var failed error
	for i, at := range [][2]int64{{data, size}, {resources, resourceSize}} {
		fork, whole := macFork(b, at[0], at[1])
		if !whole {
			failed = errMac
		}
		if len(fork) == 0 {
			continue
		}
		inner := name
		if i == 1 {
			inner += ".rsrc"
		}
		if err := c.file(inner, 0, int64(len(fork)), bytes.NewReader(fork)); err != nil {
			return err
		}
	}
	return failed
}
