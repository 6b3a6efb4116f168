package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// TestKillLosesNothing kills the gateway with no warning, again and again,
// while mail pours in. Whatever the client heard 250 for must be at the next
// hop or in quarantine afterwards: infected mail only there, clean mail only here.
func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	const kills = 20
	hop := testenv.NextHop(t)
	s := startServer(t, hop.Addr, "")

	var (
		mu       sync.Mutex
		accepted = map[string]bool{} // subject -> infected
		next     atomic.Int64
		ctx, end = context.WithCancel(context.Background())
		senders  sync.WaitGroup
	)
	defer end()
	for range 6 {
		senders.Go(func() {
			for ctx.Err() == nil {
				n := next.Add(1)
				infected := n%4 == 0
				subject, body := fmt.Sprintf("load-%d", n), repeatLine("some text", 3000)
				if infected {
					body = string(eicar())
				}
				c, err := dialSMTPErr(s.smtp)
				if err != nil {
					time.Sleep(20 * time.Millisecond) // The gateway is down just now.
					continue
				}
				r, err := c.mail("erika@sender.example", []string{"bob@ours.example"}, text(subject, body))
				c.conn.Close()
				if err == nil && code(r) == 250 {
					mu.Lock()
					accepted[subject] = infected
					mu.Unlock()
				}
			}
		})
	}
	rnd := rand.New(rand.NewSource(time.Now().UnixNano()))
	for i := range kills {
		time.Sleep(time.Duration(rnd.Intn(1000)) * time.Millisecond)
		s.kill()
		s.start()
		t.Logf("kill %d of %d: %d mails accepted so far", i+1, kills, len(snapshot(&mu, accepted)))
	}
	time.Sleep(time.Second)
	end()
	senders.Wait()
	wantNothingLost(t, s, hop, snapshot(&mu, accepted))
}

func snapshot(mu *sync.Mutex, m map[string]bool) map[string]bool {
	mu.Lock()
	defer mu.Unlock()
	c := make(map[string]bool, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func wantNothingLost(t *testing.T, s *server, hop *testenv.Hop, accepted map[string]bool) {
	t.Helper()
	if len(accepted) < 100 {
		t.Errorf("only %d mails were accepted: too few to prove anything", len(accepted))
	}
	held := map[string]bool{}
	rows, err := s.db().Query(context.Background(), `SELECT subject FROM quarantine_item`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var subject string
		if err := rows.Scan(&subject); err != nil {
			t.Fatal(err)
		}
		held[subject] = true
	}
	there := map[string]bool{}
	for _, m := range hop.Messages() {
		_, rest, _ := bytes.Cut(m.Data, []byte("\nSubject: "))
		subject, _, _ := bytes.Cut(rest, []byte("\r\n"))
		there[string(subject)] = true
		if bytes.Contains(m.Data, eicar()) {
			t.Errorf("infected mail %s is at the next hop", subject)
		}
	}
	lost := 0
	for subject, infected := range accepted {
		if infected && !held[subject] || !infected && !there[subject] {
			lost++
			t.Errorf("%s (infected: %v) got 250 and is nowhere", subject, infected)
		}
	}
	t.Logf("%d accepted, %d lost, %d in quarantine, %d at the next hop", len(accepted), lost, len(held), len(there))
}
