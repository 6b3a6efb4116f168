package sidecar

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
)

// Cabinets (MS-CAB) hold folders, which are streams of packed blocks, in which
// files follow each other. There is no kept library that opens two files of one
// name, so this is one. LZX and Quantum are not read.

var (
	errCab       = errors.New("cabinet is broken")
	errCabMethod = errors.New("cabinet is packed by a method that is not read")
)

const (
	cabStored = 0
	cabMSZIP  = 1
	cabBlock  = 32 << 10 // unpacked, at most
)

type cabFolder struct {
	blocks []byte // where they start
	n      int
	method uint16
	skip   int // reserved bytes of each block
}

type cabFile struct {
	name       string
	size, at   int64
	folder     int
	spansParts bool // lies in another cabinet as well
}

func openCab(c *container) error {
	folders, files, err := readCab(c.data, c.w.lim.Files)
	if err != nil {
		return err
	}
	var failed error
	for i, folder := range folders {
		// Sizes and offsets are the archive's word: a folder is unpacked once, as far as it goes.
		limit := min(c.w.lim.TotalBytes-c.w.total, max(int64(len(c.data))*c.w.lim.Ratio, 1<<20))
		data, err := folder.unpack(c.w, limit)
		if isLimit(err) {
			return err
		}
		failed = errors.Join(failed, err)
		for _, f := range files {
			if f.folder != i {
				continue
			}
			if f.at >= int64(len(data)) && f.size > 0 || f.spansParts {
				failed = errors.Join(failed, errCab)
				continue
			}
			at := min(f.at, int64(len(data)))
			b := data[at:min(at+f.size, int64(len(data)))]
			if err := c.file(f.name, 0, int64(len(b)), bytes.NewReader(b)); err != nil {
				return err
			}
		}
	}
	return failed
}

// readCab reads the tables of folders and files.
func readCab(data []byte, most int) (folders []cabFolder, files []cabFile, err error) {
	if len(data) < 36 {
		return nil, nil, errCab
	}
	le := binary.LittleEndian
	filesAt, nFolders, nFiles, flags := int(le.Uint32(data[16:])), int(le.Uint16(data[26:])), int(le.Uint16(data[28:])), le.Uint16(data[30:])
	if nFiles > most {
		return nil, nil, errFilesLimit
	}
	at, folderSkip, blockSkip := 36, 0, 0
	if flags&4 != 0 {
		if len(data) < 40 {
			return nil, nil, errCab
		}
		folderSkip, blockSkip = int(data[38]), int(data[39])
		at += 4 + int(le.Uint16(data[36:]))
	}
	for range 2 * int(flags&1+flags>>1&1) { // names of the cabinets before and after
		i := bytes.IndexByte(data[min(at, len(data)):], 0)
		if i < 0 {
			return nil, nil, errCab
		}
		at += i + 1
	}
	for range nFolders {
		if at+8 > len(data) {
			return nil, nil, errCab
		}
		f := cabFolder{n: int(le.Uint16(data[at+4:])), method: le.Uint16(data[at+6:]) & 15, skip: blockSkip}
		if start := int(le.Uint32(data[at:])); start <= len(data) {
			f.blocks = data[start:]
		}
		folders = append(folders, f)
		at += 8 + folderSkip
	}
	for at = filesAt; len(files) < nFiles; {
		if at < 0 || at+17 > len(data) {
			return nil, nil, errCab
		}
		name, _, ok := bytes.Cut(data[at+16:], []byte{0})
		if !ok || len(name) > 1024 {
			return nil, nil, errCab
		}
		folder := int(le.Uint16(data[at+8:]))
		files = append(files, cabFile{name: string(name), size: int64(le.Uint32(data[at:])), at: int64(le.Uint32(data[at+4:])), folder: folder, spansParts: folder >= nFolders})
		if folder >= nFolders {
			files[len(files)-1].folder = 0
		}
		at += 16 + len(name) + 1
	}
	return folders, files, nil
}

// unpack is all that is in a folder. Each block of MSZIP is a stream of its own,
// with the block before it as its dictionary.
func (f cabFolder) unpack(w *walker, limit int64) (out []byte, err error) {
	if f.method != cabStored && f.method != cabMSZIP {
		return nil, errCabMethod
	}
	b := f.blocks
	for range f.n {
		if err := w.late(); err != nil {
			return out, err
		}
		if len(b) < 8+f.skip {
			return out, errCab
		}
		size := int(binary.LittleEndian.Uint16(b[4:]))
		b = b[8+f.skip:]
		if size > len(b) {
			return out, errCab
		}
		block := b[:size]
		b = b[size:]
		if f.method == cabMSZIP {
			if !bytes.HasPrefix(block, []byte("CK")) {
				return out, errCab
			}
			r := flate.NewReaderDict(bytes.NewReader(block[2:]), out[max(0, len(out)-cabBlock):])
			if block, err = io.ReadAll(io.LimitReader(r, cabBlock)); err != nil {
				return append(out, block...), err
			}
		}
		if int64(len(out)+len(block)) > limit {
			return out, errTotalLimit
		}
		out = append(out, block...)
	}
	return out, nil
}
