// Package timerslack lets the kernel wake a program's threads a little late.
//
// While a Go program is busy, its runtime looks after it from a thread that
// sleeps for 20 µs at a time. On the path of a mail, where every file in memory
// that is written and every piece that YARA looks at is a call of some length,
// that thread is hardly ever left to sleep longer: it takes about a tenth of the
// processor time of gateway and sidecar, and costs a switch between threads each
// time. It begins before main does, and a thread's slack can only be set by
// itself or be inherited, so the program starts itself once more.
package timerslack

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wide is far below all times that Mailward waits for, and far above the
// runtime's 20 µs.
const wide = time.Millisecond

// begun is set in the environment of the program that was started once more, so
// that this happens once, whatever a kernel makes of it.
const begun = "TIMERSLACK_WIDENED"

// Widen gives all threads of this program, and the programs that it starts, a
// slack of a millisecond. It replaces the program by itself, with the same
// process id, arguments and environment, and so belongs at the start of main. It
// does nothing where the slack is wide already, as under systemd with
// TimerSlackNSec. An error means that the program goes on as it was.
func Widen() error {
	if os.Getenv(begun) != "" {
		return nil
	}
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("read timer slack: %w", err)
	}
	if time.Duration(now) >= wide {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	runtime.LockOSThread() // The slack is the thread's that execs.
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(wide.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	return fmt.Errorf("start %s once more: %w", self, syscall.Exec(self, os.Args, append(os.Environ(), begun+"=1")))
}
