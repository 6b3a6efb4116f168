package proof

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io/fs"
	"strings"
	"testing"
)

func zipOf(t *testing.T, comment string, files ...zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		fw, err := w.CreateHeader(&f)
		if err != nil {
			t.Fatal(err)
		}
		fw.Write([]byte("text of " + f.Name))
	}
	if err := w.SetComment(comment); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestUnpack: a zip that another program could read in another way is refused
// before anything in it is looked at.
func TestUnpack(t *testing.T) {
	t.Parallel()
	plain := func(name string) zip.FileHeader { return zip.FileHeader{Name: name, Method: zip.Deflate} }
	link := plain(FileReadme)
	link.SetMode(fs.ModeSymlink | 0o777)
	good := zipOf(t, "", plain(FileEvents), plain(FileLeaves))
	other := func(from, to string) []byte { return bytes.Replace(bytes.Clone(good), []byte(from), []byte(to), 1) } // the first is in front
	directory := bytes.Index(good, binary.LittleEndian.AppendUint32(nil, directoryMagic))
	between := append(append(bytes.Clone(good[:directory]), "hidden file"...), good[directory:]...)
	binary.LittleEndian.PutUint32(between[len(between)-6:], uint32(directory+11))
	for name, c := range map[string]struct {
		zip  []byte
		want string
	}{
		"as we write it":          {good, ""},
		"a file twice":            {zipOf(t, "", plain(FileEvents), plain(FileEvents)), "two files"},
		"a file that is not ours": {zipOf(t, "", plain(FileEvents), plain("NOTICE.txt")), "no bundle has"},
		"a way out":               {zipOf(t, "", plain("../../etc/cron.d/x")), "no bundle has"},
		"another case":            {zipOf(t, "", plain("readme.txt")), "no bundle has"},
		"a link":                  {zipOf(t, "", link), "no plain file"},
		"a comment":               {zipOf(t, "see also", plain(FileEvents)), "comment"},
		"another name in front":   {other(FileEvents, "events.NDJSON"), "two tales"},
		"something before":        {append([]byte("#!/bin/sh\n"), good...), "two tales"},
		"something behind":        {append(bytes.Clone(good), make([]byte, 30)...), "behind"},
		"something between":       {between, "before its directory"},
		"cut off":                 {good[:len(good)-10], "no zip file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rep, err := Verify(bytes.NewReader(c.zip), int64(len(c.zip)), Options{})
			if c.want == "" {
				if rep.Problem != "" || err == nil || !strings.Contains(err.Error(), "no "+FileManifest) {
					t.Errorf("%+v, %v", rep, err)
				}
				return
			}
			if err == nil {
				err = wrong("%s", rep.Problem)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
