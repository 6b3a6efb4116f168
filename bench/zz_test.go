package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/baruwa-enterprise/clamd"
	"golang.org/x/sys/unix"
)

func memf(b []byte) *os.File {
	fd, _ := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	f := os.NewFile(uintptr(fd), "x")
	f.Write(b)
	return f
}

func TestZZ(t *testing.T) {
	ctx := context.Background()
	b, stop, err := startBed(ctx, options{}, false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	g := newGenerator(7, "zz")
	run := func(name string, n int, files [][]byte) {
		fs := []*os.File{}
		for _, x := range files {
			fs = append(fs, memf(x))
		}
		c0 := clamdCPU(b)
		t0 := time.Now()
		for i := 0; i < n; i++ {
			f := fs[i%len(fs)]
			cl, _ := clamd.NewClient("unix", b.clamd)
			r, err := cl.Fildes(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			if err != nil || len(r) == 0 {
				t.Fatal(err)
			}
		}
		d := time.Since(t0)
		fmt.Printf("%-20s %6.2f ms wall, %6.2f ms cpu each, %d bytes\n", name, d.Seconds()*1000/float64(n), (clamdCPU(b)-c0)*1000/float64(n), len(files[0]))
		for _, f := range fs {
			f.Close()
		}
	}
	for _, k := range []kind{text, html, attachment, archive, big} {
		var raws, parts, skel [][]byte
		for range 20 {
			m := g.mail(k)
			raws = append(raws, m.raw)
			if k == attachment || k == archive || k == big {
				f := g.newFile(k, m.token)
				parts = append(parts, f)
				// skeleton: head + 4 KB + tail
				s := append([]byte{}, m.raw[:6000]...)
				s = append(s, m.raw[len(m.raw)-200:]...)
				skel = append(skel, s)
			}
		}
		n := map[kind]int{text: 400, html: 400, attachment: 100, archive: 40, big: 10}[k]
		run(string(k)+" raw", n, raws)
		if parts != nil {
			run(string(k)+" part", n, parts)
			run(string(k)+" skeleton", n*2, skel)
		}
	}
}

func clamdCPU(b *bed) float64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.clamdTree.root))
	var u, s float64
	i := len(raw) - 1
	for raw[i] != ')' {
		i--
	}
	var st string
	var x [11]float64
	fmt.Sscan(string(raw[i+1:]), &st, &x[0], &x[1], &x[2], &x[3], &x[4], &x[5], &x[6], &x[7], &x[8], &x[9], &u, &s)
	return (u + s) / 100
}
