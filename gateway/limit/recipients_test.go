package limit

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// hop counts questions and answers as told.
type hop struct {
	asked atomic.Int64
	hold  chan struct{}
	known bool
	reply *Refusal
	err   error
}

func (h *hop) verify(ctx context.Context, route string, rcpts []string) ([]*Refusal, error) {
	h.asked.Add(1)
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if h.err != nil {
		return nil, h.err
	}
	replies := make([]*Refusal, len(rcpts))
	for i := range replies {
		if !h.known {
			replies[i] = h.reply
		}
	}
	return replies, nil
}

func recipients(t *testing.T, h *hop, rdb *redis.Client) (*Recipients, *clock) {
	c := newClock()
	r := NewRecipients(rdb, h.verify, quiet())
	r.now = c.now
	t.Cleanup(r.Close)
	return r, c
}

func TestRecipients_Answers(t *testing.T) {
	t.Parallel()
	no := func(code int, e ...int) *Refusal {
		r := &Refusal{Code: code, Text: "inner words of hop7.internal"}
		copy(r.Enhanced[:], e)
		return r
	}
	tests := []struct {
		name   string
		hop    *hop
		want   string // "": take it
		cached bool   // an answer, or trouble that gives the route a rest
	}{
		{"known", &hop{known: true}, "", true},
		{"550 5.1.1", &hop{reply: no(550, 5, 1, 1)}, "550 5.1.1 Recipient unknown", true},
		{"550 5.1.10", &hop{reply: no(550, 5, 1, 10)}, "550 5.1.1 Recipient unknown", true},
		{"550 without an enhanced code", &hop{reply: no(550)}, "550 5.1.1 Recipient unknown", true},
		{"553 without an enhanced code", &hop{reply: no(553)}, "550 5.1.1 Recipient unknown", true},
		{"450 4.1.1", &hop{reply: no(450, 4, 1, 1)}, "", false},
		{"450 that says 5.1.1", &hop{reply: no(450, 5, 1, 1)}, "", false},
		{"550 5.7.1, we are blocked", &hop{reply: no(550, 5, 7, 1)}, "", false},
		{"552 5.2.2, mailbox full", &hop{reply: no(552, 5, 2, 2)}, "", false},
		{"530 5.7.0, STARTTLS wanted", &hop{reply: no(530, 5, 7, 0)}, "", false},
		{"550 5.1.8, our sender is bad", &hop{reply: no(550, 5, 1, 8)}, "", false},
		{"554 without an enhanced code", &hop{reply: no(554)}, "", false},
		{"503", &hop{reply: no(503)}, "", false},
		{"999", &hop{reply: no(999, 5, 1, 1)}, "", false},
		{"error", &hop{err: errors.New("dial 10.0.0.7: refused")}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := recipients(t, tt.hop, nil)
			for range 3 {
				got := r.Known(context.Background(), "mx.ours.example", "bob@ours.example")
				if s := fmt.Sprint(got); got == nil && tt.want != "" || got != nil && s != tt.want {
					t.Errorf("%v, want %q", got, tt.want)
				}
			}
			if n := tt.hop.asked.Load(); (n == 1) != tt.cached {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestRecipients_DeadHopIsLeftAlone: a next hop that gives no answer is not
// asked about anybody for a while, and then again.
func TestRecipients_DeadHopIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := &hop{err: errors.New("no answer")}
	r, c := recipients(t, h, nil)
	for _, who := range []string{"a@ours.example", "b@ours.example", "c@ours.example"} {
		if no := r.Known(t.Context(), "mx.ours.example", who); no != nil {
			t.Errorf("%s: %v", who, no)
		}
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
	c.add(restAfter + time.Second)
	r.Known(t.Context(), "mx.ours.example", "d@ours.example")
	if n := h.asked.Load(); n != 2 {
		t.Errorf("asked %d times after the rest, want 2", n)
	}
}

func TestRecipients_Forgets(t *testing.T) {
	t.Parallel()
	h, ctx := &hop{reply: refuse(KindRecipient)}, context.Background()
	r, c := recipients(t, h, nil)
	steps := []struct {
		wait  time.Duration
		known bool // what the hop would say
		want  bool
		asked int64
	}{
		{0, false, false, 1},
		{9 * time.Minute, true, false, 1},   // still remembered
		{time.Minute, true, true, 2},        // made in the meantime
		{119 * time.Minute, false, true, 2}, // removed, and still remembered
		{time.Minute, false, false, 3},
	}
	for i, s := range steps {
		c.add(s.wait)
		h.known = s.known
		if got := r.Known(ctx, "r", "bob@ours.example") == nil; got != s.want || h.asked.Load() != s.asked {
			t.Errorf("step %d: known %v, asked %d times", i, got, h.asked.Load())
		}
	}
}

func TestRecipients_AreToldApart(t *testing.T) {
	t.Parallel()
	h := &hop{known: true}
	r, _ := recipients(t, h, nil)
	for _, q := range [][2]string{{"a", "bob@ours.example"}, {"b", "bob@ours.example"}, {"a", "Bob@ours.example"}, {"a", "carol@ours.example"}, {"a", "postmaster"}} {
		r.Known(context.Background(), q[0], q[1])
	}
	if n := h.asked.Load(); n != 5 {
		t.Errorf("asked %d times, want 5", n)
	}
	r.Known(context.Background(), "a", "bob@OURS.example")
	if n := h.asked.Load(); n != 5 {
		t.Error("the domain's case matters")
	}
}

func TestRecipients_OneQuestionForManyAskers(t *testing.T) {
	t.Parallel()
	h := &hop{hold: make(chan struct{}), reply: refuse(KindRecipient)}
	r, _ := recipients(t, h, nil)
	first, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := r.Known(first, "r", "bob@ours.example"); got != nil {
			t.Errorf("who left: %v", got)
		}
	})
	eventually(t, "asked", func() bool { return h.asked.Load() == 1 })
	for range 20 {
		wg.Go(func() {
			if r.Known(context.Background(), "r", "bob@ours.example") == nil {
				t.Error("taken")
			}
		})
	}
	cancel() // the first asker leaves; the others still get the answer
	close(h.hold)
	wg.Wait()
	if n := h.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRecipients_ASlowHopIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	h := &hop{hold: make(chan struct{}), reply: refuse(KindRecipient)}
	r, _ := recipients(t, h, nil)
	begin := time.Now()
	if got := r.Known(context.Background(), "r", "bob@ours.example"); got != nil {
		t.Errorf("%v", got)
	}
	if d := time.Since(begin); d < verifyTime-time.Second || d > verifyTime+time.Second {
		t.Errorf("waited %v", d)
	}
	eventually(t, "the question ends", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.flights) == 0 })
}

func TestRecipients_AreBounded(t *testing.T) {
	t.Parallel()
	h := &hop{hold: make(chan struct{}), known: true}
	r, _ := recipients(t, h, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range verifyBusy {
		wg.Go(func() { r.Known(ctx, "r", crand.Text()+"@ours.example") })
	}
	eventually(t, "all busy", func() bool { return h.asked.Load() == verifyBusy })
	if got := r.Known(context.Background(), "r", "bob@ours.example"); got != nil || h.asked.Load() != verifyBusy {
		t.Errorf("%v, asked %d times", got, h.asked.Load())
	}
	cancel()
	wg.Wait()
	r.Close() // ends what is under way
	if got := r.Known(context.Background(), "r", "bob@ours.example"); got != nil {
		t.Errorf("after Close: %v", got)
	}
	// Guessed names push out each other, not those that exist.
	r.remember(id{1}, true, time.Hour)
	for i := range verifyMost + 10 {
		r.remember(id{2, byte(i), byte(i >> 8), byte(i >> 16)}, false, time.Hour)
	}
	if _, ok := r.known.Get(id{1}); !ok || r.unknown.Len() != verifyMost {
		t.Errorf("known kept: %v, %d unknown", ok, r.unknown.Len())
	}
}

func TestRecipients_SharedByProcesses(t *testing.T) {
	t.Parallel()
	rdb, ctx := redisClient(t), context.Background()
	for _, known := range []bool{true, false} {
		rcpt := crand.Text() + "@ours.example"
		h := &hop{known: known, reply: refuse(KindRecipient)}
		a, _ := recipients(t, h, rdb)
		b, _ := recipients(t, h, rdb)
		for _, r := range []*Recipients{a, b, a, b} {
			if got := r.Known(ctx, "r", rcpt) == nil; got != known {
				t.Errorf("known %v, want %v", got, known)
			}
		}
		if n := h.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}

func TestRecipients_RedisStopsOrTalksNonsense(t *testing.T) {
	t.Parallel()
	own, ctx := newOwnRedis(t), context.Background()
	rdb := own.client()
	h := &hop{reply: refuse(KindRecipient)}
	r, _ := recipients(t, h, rdb)
	key := r.redis.salt.Load().key(recipientOf("r", "bob@ours.example"))
	if err := rdb.Set(ctx, key, "maybe", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if r.Known(ctx, "r", "bob@ours.example") == nil || h.asked.Load() != 1 {
		t.Error("nonsense was believed")
	}
	own.stop()
	if r.Known(ctx, "r", "carol@ours.example") == nil || h.asked.Load() != 2 {
		t.Error("without Redis the hop is asked")
	}
	if r.Known(ctx, "r", "carol@ours.example") == nil || h.asked.Load() != 2 {
		t.Error("without Redis nothing is remembered")
	}
}

// TestRecipients_Expected: those that are announced are asked about together,
// without those that are known, and an answer that breaks off is good for those
// that it came to.
func TestRecipients_Expected(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	r := NewRecipients(nil, func(_ context.Context, _ string, rcpts []string) (replies []*Refusal, err error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, strings.Join(rcpts, " "))
		for _, to := range rcpts {
			switch to {
			case "gone@ours.example":
				replies = append(replies, &Refusal{Code: 550, Enhanced: [3]int{5, 1, 1}})
			case "cut@ours.example":
				return replies, errors.New("no more")
			default:
				replies = append(replies, nil)
			}
		}
		return replies, nil
	}, quiet())
	defer r.Close()
	r.Known(t.Context(), "r", "al@ours.example")
	r.Expect("r", "al@ours.example", "bo@ours.example", "gone@ours.example", "bo@ours.example", "cut@ours.example", "di@ours.example")
	for who, want := range map[string]bool{"al": true, "bo": true, "gone": false, "cut": true, "di": true} {
		if got := r.Known(t.Context(), "r", who+"@ours.example") == nil; got != want {
			t.Errorf("%s: taken %v", who, got)
		}
	}
	if got := strings.Join(asked, "; "); got != "al@ours.example; bo@ours.example gone@ours.example cut@ours.example di@ours.example" {
		t.Errorf("asked about %s", got)
	}
}
