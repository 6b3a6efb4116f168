package standalone

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// systemSignatures is where Debian's freshclam puts the signatures.
const systemSignatures = "/var/lib/clamav"

// startClamd runs clamd on the machine's signatures, or on a set of our own
// that knows only the EICAR test file where there are none.
func (s *Stack) startClamd(ctx context.Context) (*child, error) {
	bin, err := findClamd()
	if err != nil {
		return nil, err
	}
	acc, err := accountFor(ScanUser)
	if err != nil {
		return nil, err
	}
	// Configuration and signatures stay ours: clamd reads them, and a clamd that
	// was taken over cannot teach its successor to find nothing.
	dir := filepath.Join(s.cfg.DataDir, "clamav")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of clamd: %w", err)
	}
	tmp, err := s.clamdTemp(dir, acc)
	if err != nil {
		return nil, err
	}
	run, err := s.socketDir("scan", acc, "clamd.sock")
	if err != nil {
		return nil, err
	}
	db := systemSignatures
	if s.cfg.TestSignaturesOnly || !haveSignatures(db) {
		s.TestSignatures = true
		db = filepath.Join(dir, "test-signatures")
		if err := writeTestSignatures(db); err != nil {
			return nil, err
		}
	}
	sock, conf := filepath.Join(run, "clamd.sock"), filepath.Join(dir, "clamd.conf")
	if err := os.WriteFile(conf, []byte(clamdConf(db, sock, tmp, s.cfg.MaxMessageSize)), 0o644); err != nil {
		return nil, fmt.Errorf("write clamd.conf: %w", err)
	}
	s.ClamdAddress, s.Signatures = Addresses(s.cfg.DataDir).ClamdAddress, db
	c := s.child("clamd", syscall.SIGTERM, acc, bin, "--foreground", "--config-file", conf)
	c.ready = func(context.Context) error { return ask(sock, "zPING\x00", "PONG") }
	return c, c.run(ctx)
}

const (
	sharedMemory = "/dev/shm"
	// sharedMemoryFree is what has to be free there for clamd to use it, in bytes.
	sharedMemoryFree = 1 << 30
)

// clamdTemp makes the folder for clamd's temporary files. clamd makes and
// removes a folder and some files for every scan, which on a disk can cost it
// more than the scan of a small mail: they are kept in memory where there is
// enough. The name of a folder there is kept as a link, so that the next start
// can clear up what a killed program left.
func (s *Stack) clamdTemp(dir string, acc account) (string, error) {
	link := filepath.Join(dir, "tmp")
	if old, err := os.Readlink(link); err == nil && filepath.Dir(old) == sharedMemory {
		if err := os.RemoveAll(old); err != nil {
			return "", fmt.Errorf("remove clamd's old temporary files: %w", err)
		}
	}
	if err := os.RemoveAll(link); err != nil {
		return "", fmt.Errorf("remove clamd's old temporary files: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(sharedMemory, &st); err != nil || st.Type != unix.TMPFS_MAGIC || int64(st.Bavail)*st.Bsize < sharedMemoryFree {
		return link, acc.ownDir(link)
	}
	tmp, err := os.MkdirTemp(sharedMemory, "mailward-clamd-")
	if err != nil {
		return link, acc.ownDir(link)
	}
	s.scratch = tmp
	if err := os.Symlink(tmp, link); err != nil {
		return "", fmt.Errorf("note the folder of clamd's temporary files: %w", err)
	}
	return tmp, acc.ownDir(tmp)
}

func findClamd() (string, error) {
	for _, p := range []string{"clamd", "/usr/sbin/clamd"} {
		if bin, err := exec.LookPath(p); err == nil {
			return bin, nil
		}
	}
	return "", errors.New("ClamAV is not installed: run `make setup`, or set clamav.address")
}

func haveSignatures(dir string) bool {
	for _, pattern := range []string{"main.c?d", "daily.c?d"} {
		if m, _ := filepath.Glob(filepath.Join(dir, pattern)); len(m) == 0 {
			return false
		}
	}
	return true
}

// writeTestSignatures makes a database that finds the EICAR test file at any
// offset. The string is put together here: in one piece it would set off other
// scanners on our own files.
func writeTestSignatures(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of test signatures: %w", err)
	}
	eicar := `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
	p := filepath.Join(dir, "mailward-test.ndb")
	if err := os.WriteFile(p, []byte("Eicar-Test-Signature:0:*:"+hex.EncodeToString([]byte(eicar))+"\n"), 0o644); err != nil {
		return fmt.Errorf("write test signatures: %w", err)
	}
	return nil
}

// ClamdMaxFile is the MaxFileSize in bytes of the clamd that we start: a mail
// with all around it, and at least what clamd has by default.
func ClamdMaxFile(maxMessage int64) int64 { return max(maxMessage>>20+10, 100) << 20 }

// clamdConf makes clamd say so when it gave up on a part of a mail: by default
// everything beyond a limit counts as clean.
func clamdConf(db, sock, tmp string, maxMessage int64) string {
	mb := ClamdMaxFile(maxMessage) >> 20
	return fmt.Sprintf(`# Written by mailward at each start.
DatabaseDirectory %s
LocalSocket %s
LocalSocketMode 600
FixStaleSocket yes
TemporaryDirectory %s
Foreground yes
LogTime yes
MaxThreads 8
MaxQueue 64
MaxConnectionQueueLength 100
ReadTimeout 60
CommandReadTimeout 30
StreamMaxLength %dM
MaxFileSize %dM
MaxScanSize 400M
MaxScanTime 45000
MaxRecursion 17
MaxFiles 10000
AlertExceedsMax yes
AlertEncrypted yes
AlertOLE2Macros no
ScanMail yes
HeuristicScanPrecedence no
SelfCheck 60
ConcurrentDatabaseReload yes
ExitOnOOM yes
`, db, sock, tmp, mb, mb)
}
