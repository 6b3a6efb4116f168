package scanner

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mailward/policy"
)

// Reach is how far clamd looks. By its defaults everything beyond one of its
// limits is "OK" (AlertExceedsMax no), and Debian's configuration stops at 25 MB.
// Its settings cannot be asked for, so they are found out by trying.
type Reach struct {
	// File is the size in bytes up to which it finds something in a file; 0: not known.
	File int64
	// Alerts says whether it tells when it stopped at a limit.
	Alerts bool
	At     time.Time // when that was found out; zero: never
}

const (
	// reachAge is how long the reach is believed: clamd may be started anew with
	// other settings.
	reachAge = time.Hour
	// reachTimeout bounds all of the trying, up to some 100 MB scans.
	reachTimeout = 60 * time.Second
	// reachSure is a size in bytes that every clamd in use reaches. Files up to it
	// do not wait for the first proof.
	reachSure = 1 << 20
	// reachUnproven is believed where clamd has no signature to try with: the
	// smallest limit in common use (Debian's).
	reachUnproven = 25 << 20
)

// reachSizes are tried, the usual values of MaxFileSize less a little, since
// clamd counts a megabyte as 2^20 bytes.
var reachSizes = []int64{100 << 20, 50 << 20, 25 << 20, 20 << 20, 10 << 20, 5 << 20, 2 << 20}

// Reach says how far clamd looks, and finds it out where that is not known or
// long ago. Who calls meanwhile waits with it, at most until ctx ends.
func (c *Clamd) Reach(ctx context.Context) Reach {
	if c.maxFile > 0 {
		return Reach{File: c.maxFile, Alerts: true, At: time.Now()}
	}
	select {
	case c.proving <- struct{}{}:
		defer func() { <-c.proving }()
	case <-ctx.Done():
		return Reach{}
	}
	c.mu.Lock()
	r := c.reach
	c.mu.Unlock()
	if !r.At.IsZero() && time.Since(r.At) < reachAge {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if again, err := c.prove(ctx); err == nil {
		r = again
		c.mu.Lock()
		c.reach = r
		c.mu.Unlock()
	}
	return r
}

// prove finds out the reach. An error means that clamd did not answer.
func (c *Clamd) prove(ctx context.Context) (Reach, error) {
	r := Reach{At: time.Now()}
	deep, err := nested(30)
	if err != nil {
		return r, err
	}
	found, err := c.tryFile(ctx, deep, int64(len(deep)))
	if err != nil && !errors.Is(err, errNotScanned) {
		return r, err
	}
	r.Alerts = err != nil || len(found) > 0
	if found, err = c.tryFile(ctx, testFile(), reachSure); err != nil || !named(found, "eicar") {
		return r, err // Its signatures do not know the test file.
	}
	for _, size := range reachSizes {
		if found, err = c.tryFile(ctx, testFile(), size-size/100); err != nil && !errors.Is(err, errNotScanned) && !errors.Is(err, unix.EPIPE) {
			return r, err
		}
		if named(found, "eicar") {
			r.File = size - size/100
			return r, nil
		}
	}
	r.File = reachSure
	return r, nil
}

func named(found []policy.Finding, what string) bool {
	for _, f := range found {
		if strings.Contains(strings.ToLower(f.Name), what) {
			return true
		}
	}
	return false
}

// tryFile has clamd scan a file in memory: head, and zeros up to a size in bytes.
func (c *Clamd) tryFile(ctx context.Context, head []byte, size int64) ([]policy.Finding, error) {
	fd, err := unix.MemfdCreate("proof", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make file for clamd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "proof")
	defer f.Close()
	if _, err := f.Write(head); err != nil {
		return nil, fmt.Errorf("write file for clamd: %w", err)
	}
	if err := f.Truncate(size); err != nil { // it takes no memory: nobody writes the zeros
		return nil, fmt.Errorf("stretch file for clamd: %w", err)
	}
	return c.scanOpen(ctx, f)
}

// testFile is the EICAR test file, in two pieces so that it does not set off scanners on
// our own files.
func testFile() []byte {
	return []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
}

// TestFile is the EICAR test file, which every scanner of viruses finds.
func TestFile() []byte { return testFile() }

// nested is zip files in zip files, deeper than any clamd goes. The innermost
// file is another one each time: clamd remembers what it has seen.
func nested(depth int) ([]byte, error) {
	data := []byte("nothing to find here, " + time.Now().String())
	for range depth {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.CreateHeader(&zip.FileHeader{Name: "a.zip", Method: zip.Store})
		if err == nil {
			_, err = w.Write(data)
		}
		if err = errors.Join(err, z.Close()); err != nil {
			return nil, fmt.Errorf("make nested zip files: %w", err)
		}
		data = b.Bytes()
	}
	return data, nil
}

// limit is the size in bytes of a file from which an OK of clamd says nothing;
// 0: there is none, since it tells.
func (r Reach) limit() int64 {
	if r.File == 0 && !r.Alerts {
		return reachUnproven
	}
	return r.File
}

// beyond is what clamd did not look into, though it said OK: a file of one of
// these parts that is bigger than it reaches. It does not tell of files in
// archives, even where it is set to.
func (c *Clamd) beyond(ctx context.Context, parts []policy.Part) []policy.Finding {
	big := slices.MaxFunc(parts, func(a, b policy.Part) int { return cmp.Compare(a.Size, b.Size) })
	if big.Size <= reachSure {
		return nil
	}
	limit := c.Reach(ctx).limit()
	if limit == 0 || big.Size <= limit {
		return nil
	}
	return []policy.Finding{{Engine: c.Name(), Name: "Mailward.ClamAV.TooBig", Class: policy.Unscannable, Score: 5, Part: big.Path, PartName: big.Name,
		Reason: fmt.Sprintf("ClamAV looks into files of up to %d MB only; one in it has %d MB", limit>>20, big.Size>>20)}}
}
