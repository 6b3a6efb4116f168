package webui

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailward/gateway/ledger"
)

// askedMails remembers what the page asks for.
type askedMails struct {
	mails
	got *ledger.Filter
}

func (m askedMails) List(ctx context.Context, f ledger.Filter) (ledger.Page, error) {
	*m.got = f
	return m.mails.List(ctx, f)
}

// TestMessages_OfAnExactTime: the page of coverage links to the mails of a stretch in
// which an engine was missing.
func TestMessages_OfAnExactTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var got ledger.Filter
	s.pages.mails = askedMails{s.pages.mails, &got}
	from, to := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), time.Date(2026, 11, 20, 11, 0, 0, 0, time.UTC)
	page := s.get(t, during("/messages", ledger.Gap{From: from, To: to.Add(-time.Second)}))
	if !got.From.Equal(from) || !got.To.Equal(to) {
		t.Errorf("it asks for %s to %s", got.From, got.To)
	}
	for _, want := range []string{`name="from" value="2026-11-20"`, "2026-11-20T10:00:00Z to 2026-11-20T11:00:00Z"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	s.get(t, "/messages?from=2026-11-20&to=2026-11-20")
	if day := from.Truncate(24 * time.Hour); !got.From.Equal(day) || !got.To.Equal(day.Add(24*time.Hour)) {
		t.Errorf("a day: %s to %s", got.From, got.To)
	}
	if r := s.call(t, http.MethodGet, "/messages?from=yesterday", nil); r.Code != http.StatusBadRequest {
		t.Errorf("no time: %d", r.Code)
	}
}
