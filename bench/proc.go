package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what the processes of one name took, summed over them.
type usage struct {
	peakRSS int64 // bytes; pages that several share are counted in each
	peakPSS int64 // bytes; shared pages are divided among those who share them
}

// watcher samples the memory of a process and all of its descendants.
type watcher struct {
	root   int
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards what follows
	peaks map[string]usage
	total usage
}

func watch(ctx context.Context, root int) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{root: root, cancel: cancel, done: make(chan struct{}), peaks: map[string]usage{}}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			w.sample()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

// stop ends the sampling and returns the peaks by process name, and of all.
func (w *watcher) stop() (map[string]usage, usage) {
	w.cancel()
	<-w.done
	return w.peaks, w.total
}

func (w *watcher) sample() {
	sums := map[string]usage{}
	var total usage
	for _, pid := range descendants(w.root) {
		name, rss, pss := memory(pid)
		if name == "" {
			continue
		}
		u := sums[name]
		u.peakRSS += rss
		u.peakPSS += pss
		sums[name] = u
		total.peakRSS += rss
		total.peakPSS += pss
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, u := range sums {
		p := w.peaks[name]
		w.peaks[name] = usage{max(p.peakRSS, u.peakRSS), max(p.peakPSS, u.peakPSS)}
	}
	w.total = usage{max(w.total.peakRSS, total.peakRSS), max(w.total.peakPSS, total.peakPSS)}
}

// descendants returns root and every process below it.
func descendants(root int) []int {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil {
			continue // it ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
		// The name in brackets may hold anything, so look behind the last one.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	list := []int{root}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i]]...)
	}
	return list
}

func memory(pid int) (name string, rss, pss int64) {
	dir := "/proc/" + strconv.Itoa(pid)
	// The command line, not comm: workers are started through /proc/self/exe.
	b, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return "", 0, 0
	}
	name, _, _ = strings.Cut(string(b), "\x00")
	name, _, _ = strings.Cut(name, " ") // "postgres: walwriter", "/usr/bin/redis-server unixsocket:..."
	name = strings.TrimSuffix(filepath.Base(name), ":")
	b, err = os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return "", 0, 0
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "Rss":
			rss = n << 10
		case "Pss":
			pss = n << 10
		}
	}
	return name, rss, pss
}

// cpuSeconds is the processor time of a process and its descendants so far,
// ended children that were waited for included.
func cpuSeconds(root int) float64 {
	var ticks int64
	for _, pid := range descendants(root) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) < 15 {
			continue
		}
		for _, v := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(v, 10, 64)
			ticks += n
		}
	}
	return float64(ticks) / 100
}
