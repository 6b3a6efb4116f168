package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"
)

// Worker serves requests, one at a time.
type Worker struct {
	Matcher Matcher
	// Inflate unpacks a DEFLATE stream that fills dst exactly; false: src is not just
	// that. It is a quick way for what the package can do by itself, and may be nil.
	Inflate func(dst, src []byte) bool
	About   Response // version and rules, the same in every answer
	Limits  Limits
	Log     *slog.Logger
	// Exit ends the process when a mail takes too long, also when libyara hangs
	// in C and nothing else can stop it.
	Exit func()
	// Requests after which Run returns, so that a new process takes over. 0: never.
	MaxRequests int

	known *memory
}

// grace is what a worker gets beyond the time limit of a mail.
const grace = 5 * time.Second

// Run serves until ctx ends, after the request in hand.
func (w *Worker) Run(ctx context.Context, l *net.UnixListener) error {
	w.known = newMemory(time.Now)
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for n := 0; w.MaxRequests == 0 || n < w.MaxRequests; n++ {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		w.serve(c)
	}
	return nil
}

func (w *Worker) serve(c *net.UnixConn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(w.Limits.Time + 2*grace))
	watch := time.AfterFunc(w.Limits.Time+grace, w.Exit)
	defer watch.Stop()
	req, f, err := receive(c)
	if err != nil {
		return // Somebody who only wanted to see whether we are there.
	}
	if f != nil {
		defer f.Close()
	}
	resp, done := w.answer(req, f)
	// Parts of the answer may still point into the mail.
	defer done()
	if err := writeFrame(c, resp); errors.Is(err, errFrame) {
		resp = w.about()
		resp.Error = "the answer is too big"
		writeFrame(c, resp)
		return
	}
	if resp.Part != nil && resp.Part.Found {
		if err := writeRaw(c, resp.Part.data); err != nil {
			w.Log.Warn("part not handed out", "error", err)
		}
	}
}

func (w *Worker) about() Response { return w.About }

// answer does what was asked. done frees the mail that the answer points into.
func (w *Worker) answer(req Request, f *os.File) (resp Response, done func()) {
	resp, done = w.about(), func() {}
	if req.Op == OpPing {
		return resp, done
	}
	data, done, err := mapped(f)
	if err != nil {
		resp.Error = "the mail cannot be read"
		w.Log.Error("mail not mapped", "error", err)
		return resp, func() {}
	}
	switch req.Op {
	case OpView:
		resp.View = Look(data, w.Limits)
	case OpPart:
		resp.Part = w.part(data, req.SHA256)
	case OpScan:
		found, err := w.scan(data)
		if err != nil {
			resp.Error = "the rules could not be matched"
			w.Log.Error("mail not scanned", "error", err)
			return resp, done
		}
		found.Version, found.RulesVersion, found.RulesTime, found.Rules = resp.Version, resp.RulesVersion, resp.RulesTime, resp.Rules
		return *found, done
	default:
		resp.Error = "unknown operation"
	}
	return resp, done
}

// mapped shows a file as memory, without a copy. The mail cannot change or
// shrink below us: the gateway has sealed it or holds the only way to write.
func mapped(f *os.File) ([]byte, func(), error) {
	if f == nil {
		return nil, nil, errors.New("no descriptor came with the request")
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if st.Size() == 0 {
		return nil, func() {}, nil
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	return b, func() { syscall.Munmap(b) }, nil
}
