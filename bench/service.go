package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// service is one server that we started and have to stop.
type service struct {
	name   string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// startService runs a server in the foreground, in a session of its own, so
// that ^C ends it through us and in order. Its output goes to a file.
func startService(dir, name, bin string, args ...string) (*service, error) {
	path, err := exec.LookPath(bin)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errNotInstalled, filepath.Base(bin))
	}
	s := &service{name: name, log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	f, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s.cmd = exec.Command(path, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, f, f
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { s.cmd.Wait(); close(s.exited) }()
	return s, nil
}

// errNotInstalled means that a peer is not on this machine.
var errNotInstalled = errors.New("not installed (-install installs it)")

func (s *service) pid() int { return s.cmd.Process.Pid }

// waitFor returns when the server answers, with an error when it ends or does
// not answer in time.
func (s *service) waitFor(ctx context.Context, limit time.Duration, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended:\n%s", s.name, s.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", s.name, err, s.lastLog())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func listening(network, addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			c.Close()
		}
		return err
	}
}

func (s *service) lastLog() string {
	b, _ := os.ReadFile(s.log)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// stop ends the server as an operator would, then whatever it left behind, by
// process id. It says whether it ended in order.
func (s *service) stop(limit time.Duration) (clean bool) {
	if s == nil {
		return true
	}
	family := map[int]string{}
	for _, pid := range descendants(processes(), s.pid()) {
		family[pid] = program(pid)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		clean = true
	case <-time.After(limit):
		s.cmd.Process.Kill()
		<-s.exited
	}
	for pid, name := range family {
		if name != "" && program(pid) == name {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return clean
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// freeAddresses returns n addresses that nobody listens on.
func freeAddresses(n int) (list []string, err error) {
	for range n {
		a, err := freeAddress()
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}
