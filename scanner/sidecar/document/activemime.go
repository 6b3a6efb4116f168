package document

import (
	"bytes"
	"compress/zlib"
)

// activeMime takes out what Word packs in an ActiveMime file: the macros of a
// document that is a web page or XML.
func (r *reader) activeMime() error {
	b, err := r.unMSO(r.file.Data)
	if err != nil || len(b) == len(r.file.Data) {
		return err
	}
	return r.embed("editdata.ole", "", b)
}

// unMSO unpacks an ActiveMime file; what is none is returned as it is.
func (r *reader) unMSO(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte("ActiveMime")) {
		return b, nil
	}
	for _, mark := range []string{"\x78\x9c", "\x78\x01", "\x78\xda", "\x78\x5e"} {
		i := bytes.Index(b[:min(len(b), 2048)], []byte(mark))
		if i < 0 {
			continue
		}
		if z, err := zlib.NewReader(bytes.NewReader(b[i:])); err == nil {
			return r.unpack(z, maxStream)
		}
	}
	return b, nil
}
