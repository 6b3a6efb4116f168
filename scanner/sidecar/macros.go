package sidecar

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/richardlehane/mscfb"
)

// maxStreams bounds the streams of one document that are looked at.
const maxStreams = 2000

// macros finds the VBA source in an OLE file (a document of old, or the
// vbaProject.bin of a new one), which is compressed, and looks at it in clear.
func (w *walker) macros(p, name string, data []byte, depth, archives int) error {
	var source bytes.Buffer
	err := guard(func() error {
		doc, err := mscfb.New(bytes.NewReader(data))
		if err != nil {
			return err
		}
		for n := 0; n < maxStreams; n++ {
			e, err := doc.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if e.Size <= 0 || e.Size > 32<<20 {
				continue
			}
			b, err := io.ReadAll(io.LimitReader(e, e.Size))
			if err != nil {
				continue
			}
			// MS-OVBA §2.3.4.3: the source of a module starts with its attributes.
			if i := bytes.Index(b, []byte("\x00Attribut")); i >= 3 {
				source.Write(decompressVBA(b[i-3:], 16<<20))
				source.WriteByte('\n')
			}
		}
		return nil
	})
	if err != nil && source.Len() == 0 {
		// Something else that starts like OLE; its raw bytes were matched already.
		return w.late()
	}
	if source.Len() == 0 {
		return nil
	}
	if w.total += int64(source.Len()); w.total > w.lim.TotalBytes {
		return errTotalLimit
	}
	return w.run(source.Bytes(), Vars{Path: fmt.Sprintf("%s.vba", p), Name: name, Ext: ".vba", ContentType: "text/x-vba", TrueType: "text/x-vba", Depth: depth + archives, Archived: archives > 0})
}

// decompressVBA undoes the compression of MS-OVBA §2.4.1, as far as it goes.
func decompressVBA(b []byte, limit int) []byte {
	var out []byte
	if len(b) == 0 || b[0] != 1 {
		return nil
	}
	b = b[1:]
	for len(b) >= 2 && len(out) < limit {
		h := binary.LittleEndian.Uint16(b)
		size := int(h&0x0fff) + 3
		compressed := h&0x8000 != 0
		chunk := b[2:min(size, len(b))]
		b = b[min(size, len(b)):]
		if h>>12&7 != 3 {
			return out
		}
		if !compressed {
			out = append(out, chunk...)
			continue
		}
		out = decompressChunk(out, chunk)
	}
	return out
}

func decompressChunk(out, chunk []byte) []byte {
	start := len(out)
	for i := 0; i < len(chunk); {
		flags := chunk[i]
		i++
		for bit := 0; bit < 8 && i < len(chunk); bit++ {
			if flags>>bit&1 == 0 {
				out = append(out, chunk[i])
				i++
				continue
			}
			if i+2 > len(chunk) {
				return out
			}
			token := binary.LittleEndian.Uint16(chunk[i:])
			i += 2
			done := len(out) - start
			bits := 4
			for 1<<bits < done {
				bits++
			}
			offset, length := int(token>>(16-bits))+1, int(token&(0xffff>>bits))+3
			if offset > done {
				return out
			}
			for range length {
				out = append(out, out[len(out)-offset])
			}
		}
	}
	return out
}
