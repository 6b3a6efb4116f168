package scanner

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/testenv"
	"mailward/policy"
)

// memoryEater is a file whose second stream makes its reader ask for 4 GB, which
// is more than a worker may have.
func memoryEater() []byte {
	empty, _ := hex.DecodeString("fd377a585a000004e6d6b446000000001cdf44211fb6f37d010000000004595a")
	b := []byte("\xfd7zXZ\x00\x00\x01")
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[6:8]))
	block := []byte{2, 0, 0x21, 1, 40, 0, 0, 0}
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	return append(append(append(empty, b...), block...), make([]byte, 64)...)
}

// workersOf are the processes that a scanner of this test process has started.
func workersOf(t *testing.T, socket string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended.
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[0] != "Z" {
			ppid, _ := strconv.Atoi(f[1])
			children[ppid] = append(children[ppid], pid)
		}
	}
	for _, child := range children[os.Getpid()] {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if strings.Contains(string(line), socket) {
			pids = append(pids, children[child]...)
		}
	}
	return pids
}

// TestSidecar_UnderFire: a worker that is killed, hangs or eats memory is no
// verdict, never a clean one, and others take its place. A mail that kills two is
// unscannable.
func TestSidecar_UnderFire(t *testing.T) {
	t.Parallel()
	server := testenv.Sidecar(t)
	s := NewSidecar(SidecarConfig{Socket: server.Address})
	scan := func(wait time.Duration, mail []byte) (Answer, error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return s.Scan(ctx, Job{MailID: uuid.New(), Spool: spool(t, mail)})
	}
	works := func(after string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			a, err := scan(5*time.Second, attach("a.txt", []byte(after)))
			if err == nil && len(a.Parts) > 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no scan after %s: %v", after, err)
			}
		}
	}
	works("the start")

	eater := attach("a.xz", memoryEater())
	for range 2 {
		if a, err := scan(20*time.Second, eater); !errors.Is(err, ErrUnavailable) || len(a.Findings) > 0 {
			t.Fatalf("a mail that eats memory: %v, %v", a.Findings, err)
		}
		works("a worker that ate its memory")
	}
	if a, err := scan(20*time.Second, eater); err != nil || len(a.Findings) != 1 || a.Findings[0].Class != policy.Unscannable {
		t.Errorf("a mail that killed two workers: %v, %v", a.Findings, err)
	}

	each := func(sig syscall.Signal) {
		t.Helper()
		// One that is started while the others are hit would answer in their
		// place, so that the last look has to find all of them hit.
		hit := map[int]bool{}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			pids, fresh := workersOf(t, server.Address), false
			for _, p := range pids {
				if !hit[p] {
					syscall.Kill(p, sig)
					hit[p], fresh = true, true
				}
			}
			// What is killed is gone, and the next one is not of this round.
			if len(hit) >= 2*runtime.NumCPU() && (!fresh || sig == syscall.SIGKILL) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d workers", len(pids))
			}
		}
	}
	each(syscall.SIGSTOP)
	if a, err := scan(time.Second, attach("b.txt", []byte("hangs"))); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while all workers hang: %v, %v", a.Findings, err)
	}
	each(syscall.SIGCONT)
	works("all workers hung")

	// Killed with a mail in hand: while they stand still it waits for one of them.
	each(syscall.SIGSTOP)
	done := make(chan error, 1)
	go func() {
		a, err := scan(30*time.Second, attach("c.txt", []byte(base64.StdEncoding.EncodeToString(make([]byte, 1<<20)))))
		if err == nil && len(a.Parts) == 0 {
			err = errors.New("an answer without a look at the mail")
		}
		done <- err
	}()
	each(syscall.SIGKILL)
	if err := <-done; err != nil && !errors.Is(err, ErrUnavailable) {
		t.Errorf("killed: %v", err)
	}
	works("all workers were killed")
}
