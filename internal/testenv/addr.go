package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports that [FreeAddr] gives are below those that Linux gives to connections
// that go out (ip_local_port_range): none of them takes one before it is listened on.
const (
	firstPort = 20_000
	ports     = 12_000
)

// FreeAddr is an address on loopback for a program that listens on it some seconds
// later. It is this test's until its end, also among other processes of tests.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := firstPort + rand.IntN(ports)
		// A name in the abstract namespace goes with the process that has it.
		mine, err := net.Listen("unix", fmt.Sprintf("@mailward-test-port-%d", port))
		if err != nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			mine.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { mine.Close() })
		return addr
	}
	t.Fatal("no port is free")
	return ""
}
