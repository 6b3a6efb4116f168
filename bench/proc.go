package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tree is a process with all of its descendants. What they use is booked under
// the tree's name, or, where byProgram is set, under each program's own.
type tree struct {
	name      string
	root      int
	byProgram bool
	alone     bool // the process without its descendants
}

// process is one line of /proc.
type process struct {
	parent int
	cpu    float64 // seconds so far, ended children that were waited for included
}

// processes reads all of /proc.
func processes() map[int]process {
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		// The name in brackets may hold anything, so look behind the last one.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 15 {
			continue
		}
		p := process{}
		p.parent, _ = strconv.Atoi(fields[1])
		for _, v := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(v, 10, 64)
			p.cpu += float64(n) / ticksPerSecond
		}
		all[pid] = p
	}
	return all
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that we build for.
const ticksPerSecond = 100

// descendants returns root and every process below it.
func descendants(all map[int]process, root int) []int {
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	if _, ok := all[root]; !ok {
		return nil
	}
	list := []int{root}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i]]...)
	}
	return list
}

// program is the name of a process: its command line's, not comm, because
// workers are started through /proc/self/exe.
func program(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(string(b), "\x00")
	name, _, _ = strings.Cut(name, " ") // "postgres: walwriter", "/usr/bin/redis-server unixsocket:..."
	return strings.TrimSuffix(filepath.Base(name), ":")
}

// members calls fn with each process of the trees and the name to book it under.
func members(trees []tree, all map[int]process, fn func(name string, pid int)) {
	for _, t := range trees {
		list := descendants(all, t.root)
		if t.alone {
			list = list[:min(1, len(list))]
		}
		for _, pid := range list {
			name := t.name
			if t.byProgram {
				if name = program(pid); name == "" {
					name = t.name
				}
			}
			fn(name, pid)
		}
	}
}

// cpuSeconds is the processor time of the trees so far, by name.
func cpuSeconds(trees []tree) map[string]float64 {
	all, sum := processes(), map[string]float64{}
	members(trees, all, func(name string, pid int) { sum[name] += all[pid].cpu })
	return sum
}

// machineSeconds is what the whole machine has worked so far.
func machineSeconds() (busy float64) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i >= 8 { // idle, iowait; guests are in user already
			continue
		}
		v, _ := strconv.ParseFloat(f, 64)
		busy += v / ticksPerSecond
	}
	return busy
}

// memory is what a process has in RAM, in bytes.
type memory struct {
	rss int64 // pages that several share are counted in each
	pss int64 // shared pages are divided among those who share them
	fds int64 // memory files that are held open and mapped nowhere: RSS does not have them
	sum int64 // RSS and memory files
}

func (m *memory) add(o memory) {
	m.rss += o.rss
	m.pss += o.pss
	m.fds += o.fds
	m.sum += o.rss + o.fds
}

func memoryOf(pid int) (m memory) {
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "Rss":
			m.rss = n << 10
		case "Pss":
			m.pss = n << 10
		}
	}
	return m
}

// memoryFiles is the size of the memory files that a process holds open, each
// counted once.
func memoryFiles(pid int) (sum int64) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	fds, _ := os.ReadDir(dir)
	seen := map[uint64]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(dir + fd.Name())
		if err != nil || !strings.HasPrefix(target, "/memfd:") {
			continue
		}
		var st syscall.Stat_t
		if syscall.Stat(dir+fd.Name(), &st) == nil && !seen[st.Ino] {
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
	}
	return sum
}

// watcher samples the memory of trees and keeps the peaks.
type watcher struct {
	trees  []tree
	files  bool // memory files too
	cancel context.CancelFunc
	done   chan struct{}
	peaks  map[string]memory // by name; "all" is the peak of their sum
}

// memoryInterval is enough for what grows slowly. The kernel walks all pages of
// a process to tell what it shares: every 2 s that took 1.7 % of the machine, most
// of it from the peers with the most processes.
const memoryInterval = 6 * time.Second

func watch(ctx context.Context, trees []tree, every time.Duration, files bool) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{trees: trees, files: files, cancel: cancel, done: make(chan struct{}), peaks: map[string]memory{}}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			w.sample()
			select {
			case <-ctx.Done():
				w.sample()
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

// stop ends the sampling and returns the peaks.
func (w *watcher) stop() map[string]memory {
	w.cancel()
	<-w.done
	return w.peaks
}

func (w *watcher) sample() {
	all, sums, total := processes(), map[string]memory{}, memory{}
	members(w.trees, all, func(name string, pid int) {
		m := memoryOf(pid)
		if w.files {
			m.fds = memoryFiles(pid)
		}
		s := sums[name]
		s.add(m)
		sums[name] = s
		total.add(m)
	})
	sums["all"] = total
	for name, m := range sums {
		p := w.peaks[name]
		w.peaks[name] = memory{rss: max(p.rss, m.rss), pss: max(p.pss, m.pss), fds: max(p.fds, m.fds), sum: max(p.sum, m.sum)}
	}
}
