package document

import "encoding/binary"

// lzfuStart is what the dictionary of packed RTF begins with (MS-OXRTFCP §2.1.2.1).
const lzfuStart = `{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0` + "\r\n" + `\par \pard\plain\f0\fs20\b\i\u\tab\tx`

const (
	// lzfuGrows is how much comes out of one byte at most: 17 of two, and an eighth for
	// what says which is which.
	lzfuGrows = 8
	lzfuMost  = 32 << 20 // bytes of one body
)

// UnpackRTF unpacks the body of a mail as Outlook keeps it (MS-OXRTFCP), as far as
// it goes; nil: it is none.
func UnpackRTF(b []byte) []byte {
	const head = 16
	if len(b) < head {
		return nil
	}
	packed := b[head:]
	switch string(b[8:12]) {
	case "MELA":
		return packed
	case "LZFu":
	default:
		return nil
	}
	var ring [4096]byte
	at := copy(ring[:], lzfuStart)
	out := make([]byte, 0, min(int(binary.LittleEndian.Uint32(b[4:])), lzfuGrows*len(packed), lzfuMost))
	put := func(c byte) {
		out = append(out, c)
		ring[at] = c
		at = (at + 1) % len(ring)
	}
	for len(packed) > 0 && len(out) < lzfuMost {
		flags := packed[0]
		packed = packed[1:]
		for bit := 0; bit < 8 && len(packed) > 0; bit++ {
			if flags>>bit&1 == 0 {
				put(packed[0])
				packed = packed[1:]
				continue
			}
			if len(packed) < 2 {
				return out
			}
			ref := binary.BigEndian.Uint16(packed)
			packed = packed[2:]
			from, n := int(ref>>4), int(ref&15)+2
			if from == at {
				return out // the end
			}
			for i := range n {
				put(ring[(from+i)%len(ring)])
			}
		}
	}
	return out
}
