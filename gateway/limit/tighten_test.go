package limit

import (
	"context"
	"testing"
)

// alert is a Tighter of a test.
type alert struct {
	by      int
	trial   bool
	refused int
}

func (a *alert) Tighter() (int, bool) { return a.by, a.trial }
func (a *alert) Refused() bool        { a.refused++; return true }

func TestTighten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		alert
		taken, refused int // of ten mails, and of recipients likewise
	}{
		"as it is set":           {alert{by: 1}, 8, 0},
		"four times tighter":     {alert{by: 4}, 2, 8},
		"only tried":             {alert{by: 4, trial: true}, 8, 6},
		"never less than one":    {alert{by: 100}, 1, 9},
		"limits that nobody has": {alert{by: 100}, 10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for what, act := range map[string]func(g *Guard, ctx context.Context) error{
				"mails": func(g *Guard, ctx context.Context) error { return g.Mail(ctx, someone(), "a@a.example", 0) },
				"recipients": func(g *Guard, ctx context.Context) error {
					return g.Rcpt(ctx, someone(), "a@a.example", "abuse@ours.example")
				},
			} {
				cfg := off()
				if tt.taken < 10 {
					cfg.SenderPerMinute = Rates{Mails: 8, Recipients: 8}
				}
				g, a := guard(t, cfg, nil, newClock()), tt.alert
				g.Tighten(&a)
				taken := 0
				for range 10 {
					if act(g, t.Context()) == nil {
						taken++
					}
				}
				if taken != tt.taken || a.refused != tt.refused {
					t.Errorf("%s: %d taken, %d refused for it, want %d and %d", what, taken, a.refused, tt.taken, tt.refused)
				}
			}
		})
	}
}
