package proof

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// bundleFiles are all that a bundle has, in the order in which it has them.
var bundleFiles = []string{FileEvents, FileLeaves, FileCheckpoints, FileAnchors, FilePurged, FileOrigins, FileKeys, FileManifest, FileReadme, FileSums, FileSigned}

const (
	localHeader  = 30 // of a file, without its name; APPNOTE.TXT 4.3.7
	localMagic   = 0x04034b50
	descriptor   = 16 // behind a file whose header has no sizes; 4.3.9
	descriptor64 = 24
	hasDescript  = 0x8
)

// unpack takes the files of a zip. It takes no file that is not ours, and nothing
// before, between or behind them: programs read zip files in several ways (by the
// directory at the end, or from the front), and all have to find what was checked.
func (v *verifier) unpack(r io.ReaderAt, size int64, z *zip.Reader) error {
	at := int64(0)
	for _, f := range z.File {
		switch {
		case v.files[f.Name] != nil:
			return wrong("the bundle has two files %s", f.Name)
		case !slices.Contains(bundleFiles, f.Name):
			return wrong("the bundle has a file %q that no bundle has", f.Name)
		case !f.Mode().IsRegular() || f.Method != zip.Deflate && f.Method != zip.Store:
			return wrong("%s is no plain file of the bundle", f.Name)
		}
		v.files[f.Name] = f
		end, err := entryEnd(r, at, f)
		if err != nil {
			return err
		}
		at = end
	}
	if len(z.Comment) > 0 {
		return wrong("the bundle has a comment that no bundle has")
	}
	if end, err := directoryEnd(r, at, z.File); err != nil {
		return err
	} else if end != size {
		return wrong("the bundle has something else behind or between its files")
	}
	return nil
}

// entryEnd is where the entry of a file ends that has to begin at an offset, and
// has to say there what the directory says.
func entryEnd(r io.ReaderAt, at int64, f *zip.File) (int64, error) {
	head := make([]byte, localHeader+len(f.Name))
	if _, err := r.ReadAt(head, at); err != nil {
		return 0, fmt.Errorf("read the head of %s: %w", f.Name, err)
	}
	le := binary.LittleEndian
	extra := int64(le.Uint16(head[28:]))
	start := at + int64(len(head)) + extra
	offset, err := f.DataOffset()
	if err != nil || le.Uint32(head) != localMagic || offset != start || int(le.Uint16(head[26:])) != len(f.Name) || string(head[localHeader:]) != f.Name ||
		le.Uint16(head[6:]) != f.Flags || le.Uint16(head[8:]) != f.Method {
		return 0, wrong("the bundle has two tales of %s, or something else before it", f.Name)
	}
	end := start + int64(f.CompressedSize64)
	if f.Flags&hasDescript == 0 {
		return end, nil
	}
	if f.CompressedSize64 >= 1<<32-1 || f.UncompressedSize64 >= 1<<32-1 {
		return end + descriptor64, nil
	}
	return end + descriptor, nil
}

const (
	directoryHeader = 46 // of a file, without name, extra and comment; 4.3.12
	directoryMagic  = 0x02014b50
	endRecord       = 22 // 4.3.16, without comment
	endRecord64     = 56 + 20
	endMagic        = 0x06054b50
	endMagic64      = 0x06064b50
)

// directoryEnd is where the file has to end whose directory begins at an offset.
func directoryEnd(r io.ReaderAt, at int64, files []*zip.File) (int64, error) {
	head, le := make([]byte, directoryHeader), binary.LittleEndian
	for _, f := range files {
		if _, err := r.ReadAt(head, at); err != nil || le.Uint32(head) != directoryMagic || int(le.Uint16(head[28:])) != len(f.Name) {
			return 0, wrong("the bundle has something else before its directory")
		}
		at += directoryHeader + int64(len(f.Name)) + int64(le.Uint16(head[30:])) + int64(le.Uint16(head[32:]))
	}
	if _, err := r.ReadAt(head[:4], at); err != nil {
		return 0, fmt.Errorf("read the end of the bundle: %w", err)
	}
	if le.Uint32(head) == endMagic64 {
		return at + endRecord64 + endRecord, nil
	}
	if le.Uint32(head) != endMagic {
		return 0, wrong("the bundle has something else behind its directory")
	}
	return at + endRecord, nil
}
