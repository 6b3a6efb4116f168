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
	Matcher  Matcher
	Compiler Compiler // nil: rules are not compiled on demand
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

	known   *memory
	buffers buffers
	tried   *tried // nil: nothing was tried yet
}

// grace is what a worker gets beyond the time limit of a mail.
const grace = 5 * time.Second

// SlowGrace is how long after the end of a mail's time it may be looked for the
// rule that took it. The rest of the grace is for the answer.
const SlowGrace = 3 * time.Second

// Run serves until ctx ends, after the request in hand.
func (w *Worker) Run(ctx context.Context, l *net.UnixListener) error {
	w.known = newMemory(time.Now)
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for n := 0; w.MaxRequests == 0 || n < w.MaxRequests; n++ {
		c, err := l.AcceptUnix()
		if err == nil {
			w.serve(c) // Also when ctx has just ended: nobody else has this connection.
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	return nil
}

func (w *Worker) serve(c *net.UnixConn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(w.Limits.Time + 2*grace))
	watch := time.AfterFunc(w.Limits.Time+grace, w.Exit)
	defer watch.Stop()
	req, files, err := receive(c)
	if err != nil {
		return // Somebody who only wanted to see whether we are there.
	}
	defer closeAll(files)
	resp, done := w.answer(req, files)
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
func (w *Worker) answer(req Request, files []*os.File) (resp Response, done func()) {
	resp, done = w.about(), func() {}
	first := append(files, nil)[0]
	switch req.Op {
	case OpPing:
	case OpRules:
		if w.Compiler != nil {
			resp.InForce, resp.Problem = w.Compiler.InForce()
		}
	case OpCompile:
		_, compiled, err := w.compile(first)
		if err != nil {
			resp.Error = "the rule set cannot be read"
			w.Log.Warn("rule set not read", "error", err)
			return resp, done
		}
		resp.Compiled = &compiled
	case OpView, OpScan, OpTry, OpPart:
		return w.answerMail(req, files)
	default:
		resp.Error = "unknown operation"
	}
	return resp, done
}

// answerMail does what was asked about a mail, the first of the files.
func (w *Worker) answerMail(req Request, files []*os.File) (resp Response, done func()) {
	resp = w.about()
	data, done, err := w.load(append(files, nil)[0])
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
	case OpTry:
		err = w.answerTry(&resp, data, files)
	default:
		var found *Response
		if found, err = w.scan(data); err == nil {
			found.Version, found.RulesVersion, found.RulesTime, found.Rules, found.Managed = resp.Version, resp.RulesVersion, resp.RulesTime, resp.Rules, resp.Managed
			return *found, done
		}
	}
	if err != nil {
		resp.Error = "the rules could not be matched"
		if errors.As(err, &resp.Slow) {
			resp.Error = resp.Slow.Error()
		}
		w.Log.Error("mail not scanned", "op", req.Op, "error", err)
	}
	return resp, done
}

func (w *Worker) answerTry(resp *Response, data []byte, files []*os.File) error {
	if len(files) != 2 {
		return errors.New("a mail and a rule set are needed")
	}
	c, compiled, err := w.compile(files[1])
	if err != nil {
		return err
	}
	resp.Compiled = &compiled
	if !compiled.OK {
		return nil
	}
	resp.Trial, err = w.try(data, c)
	return err
}

// mailRead is the size from which a mail is mapped: up to there, to read it into
// memory that is there costs less than to map its pages and to take them away.
const mailRead = 1 << 20

// load returns a mail. done frees all that it and its parts are in.
func (w *Worker) load(f *os.File) (data []byte, done func(), err error) {
	if st, err := f.Stat(); err == nil && st.Size() > 0 && st.Size() <= mailRead {
		data = w.buffers.get(int(st.Size()))
		_, err = f.ReadAt(data, 0)
		return data, w.buffers.reset, err
	}
	data, unmap, err := mapped(f)
	return data, func() { unmap(); w.buffers.reset() }, err
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
