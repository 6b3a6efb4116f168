package receipt

import (
	"archive/zip"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/digitorus/timestamp"

	"mailward/audit/proof"
)

// tokenOf takes the token out of an answer of an authority.
func tokenOf(resp []byte) ([]byte, error) {
	ts, err := timestamp.ParseResponse(resp)
	if err != nil {
		return nil, errors.New("holds no time stamp")
	}
	// What stands behind the answer would be read by nobody, and so be free to write.
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(resp, &whole); err != nil || len(rest) > 0 {
		return nil, errors.New("holds more than a time stamp")
	}
	return ts.RawToken, nil
}

// parseProof reads what [proof.Text] writes.
func parseProof(text string) (index uint64, nodes [][]byte, note string, err error) {
	head, note, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return 0, nil, "", proof.ErrNoCheckpoint
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	if index, err = strconv.ParseUint(number, 10, 63); err != nil || !ok {
		return 0, nil, "", proof.ErrNoCheckpoint
	}
	for _, l := range lines[2:] {
		h, err := base64.StdEncoding.Strict().DecodeString(l)
		if err != nil {
			return 0, nil, "", proof.ErrNoCheckpoint
		}
		nodes = append(nodes, h)
	}
	return index, nodes, note, nil
}

// Limits of what is read of a bundle that may come from anybody.
const (
	fileLimit  = 1 << 30
	totalLimit = 4 << 30
	filesLimit = 10_000
)

// Open opens a bundle that lies in a folder or in a zip. The caller closes it.
func Open(name string) (fs.FS, io.Closer, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open bundle: %w", err)
	}
	if st.IsDir() {
		r, err := os.OpenRoot(name) // a link in it leads nowhere else
		if err != nil {
			return nil, nil, fmt.Errorf("open bundle: %w", err)
		}
		return r.FS(), r, nil
	}
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s is neither a folder nor a zip", ErrNoBundle, name)
	}
	fsys, err := unpack(&z.Reader)
	if err != nil {
		z.Close()
		return nil, nil, err
	}
	return fsys, z, nil
}

// unpack looks at a zip before anything of it is read: two files of one name, or
// one that says it is huge, make it none of ours.
func unpack(z *zip.Reader) (fs.FS, error) {
	seen, total := map[string]bool{}, uint64(0)
	for _, f := range z.File {
		total += f.UncompressedSize64
		clean := strings.TrimSuffix(f.Name, "/")
		if !fs.ValidPath(clean) || path.Clean(clean) != clean || seen[clean] || f.UncompressedSize64 > fileLimit || total > totalLimit || len(seen) > filesLimit {
			return nil, fmt.Errorf("%w: the zip has an entry %q that no bundle has", ErrNoBundle, f.Name)
		}
		seen[clean] = true
	}
	return z, nil
}
