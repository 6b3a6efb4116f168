package hop

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// BenchmarkSend is the sender alone, against a server that reads and says yes.
func BenchmarkSend(b *testing.B) {
	addr := yes(b)
	for name, size := range map[string]int{"4KB": 4 << 10, "30KB": 30 << 10, "1MB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			s := sender(b, Config{})
			mail := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78))
			tr := Transfer{From: "a@sender.example", To: []Recipient{{Address: "bob@ours.example"}}, Size: int64(len(mail)), Head: bytes.Repeat([]byte("X-Head: x\r\n"), 50)}
			tr.BeforeDot = func(map[string]*Reply) error { return nil }
			b.SetBytes(int64(len(mail)))
			b.ReportAllocs()
			for b.Loop() {
				tr.Body = bytes.NewReader(mail)
				if res := s.Send(context.Background(), addr, tr); res.Err != nil {
					b.Fatal(res.Err)
				}
			}
		})
	}
}

// yes is the cheapest server that answers as it must.
func yes(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go yesTo(c)
		}
	}()
	return l.Addr().String()
}

func yesTo(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 hop\r\n")
	r := bufio.NewReaderSize(c, 128<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch string(line[:4]) {
		case "EHLO":
			io.WriteString(c, "250-hop\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
		case "MAIL", "RCPT":
		case "DATA":
			io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
			end := []byte("\r\n.\r\n")
			for last := []byte{}; !bytes.HasSuffix(last, end); {
				if _, err := r.Peek(1); err != nil {
					return
				}
				piece, _ := r.Peek(r.Buffered())
				last = append(last, piece[max(0, len(piece)-5):]...)
				last = last[max(0, len(last)-5):]
				r.Discard(len(piece))
			}
			io.WriteString(c, "250 taken\r\n")
		default:
			io.WriteString(c, "250 ok\r\n")
		}
	}
}
