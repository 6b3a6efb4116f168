package gateway

import (
	"strings"
	"testing"
)

// BenchmarkPath is a mail of 300 KB from the SMTP client to the next hop, with
// engines that cost nothing: what the gateway itself takes.
func BenchmarkPath(b *testing.B) {
	f := newFixture(b, false)
	c := f.dial()
	msg := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 4000)
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if r := c.send("erika@sender.example", []string{"bob@ours.example"}, msg); !strings.HasPrefix(r, "250") {
			b.Fatal(r)
		}
	}
}
