package webui

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/identity"
)

func TestPatience(t *testing.T) {
	t.Parallel()
	begin := func(ctx context.Context, limit time.Duration) (context.Context, echo.Context) {
		c := echo.New().NewContext(httptest.NewRequest("GET", "/", nil), httptest.NewRecorder())
		ctx, stop := withPatience(ctx, c, limit)
		t.Cleanup(func() { stop() })
		return ctx, c
	}
	ctx, _ := begin(context.Background(), time.Millisecond)
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("nothing was answered: %v", ctx.Err())
	}
	parent, gone := context.WithCancel(context.Background())
	ctx, _ = begin(parent, time.Hour)
	gone()
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("the caller is gone: %v", ctx.Err())
	}
	ctx, c := begin(context.Background(), 50*time.Millisecond)
	if _, err := c.Response().Write([]byte("the first line of many")); err != nil {
		t.Fatal(err)
	}
	child, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	<-child.Done()
	if ctx.Err() != nil {
		t.Errorf("an answer that has begun is cut off: %v", ctx.Err())
	}
}

// TestSilentDatabase: the server takes what is asked and does not answer. Calls end
// with a clear answer, those of probes and strangers too.
func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	token, person := s.token(identity.Admin), s.login()
	late, stop := context.WithTimeout(context.Background(), -1)
	t.Cleanup(stop)
	rec := httptest.NewRecorder()
	s.srv.fail(late.Err(), s.srv.echo.NewContext(httptest.NewRequest("POST", "/login", nil).WithContext(late), rec))
	if rec.Code != http.StatusServiceUnavailable || rec.Body.Len() == 0 {
		t.Errorf("a call whose time is over: %d, %d bytes", rec.Code, rec.Body.Len())
	}
	tx, err := s.db.Admin(t).Begin(context.Background())
	must(t, err)
	t.Cleanup(func() { must(t, tx.Rollback(context.Background())) })
	_, err = tx.Exec(context.Background(), "LOCK TABLE session, api_token, user_account IN ACCESS EXCLUSIVE MODE")
	must(t, err)
	begun, answers := time.Now(), make(chan int)
	for _, ask := range []func() int{
		func() int { code, _, _ := s.call(token, "GET", "/quarantine", ""); return code },
		func() int { code, _, _ := s.call(token, "POST", "/domains", `{"name":"x.example"}`); return code },
		func() int {
			person.get("/messages", http.StatusServiceUnavailable)
			return http.StatusServiceUnavailable
		},
	} {
		go func() { answers <- ask() }()
	}
	for range 3 {
		if code := <-answers; code != http.StatusServiceUnavailable {
			t.Errorf("answered with %d", code)
		}
	}
	if d := time.Since(begun); d > 3*identifyLimit {
		t.Errorf("it took %s", d)
	}
}
