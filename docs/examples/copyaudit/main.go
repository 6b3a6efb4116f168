// Command copyaudit copies the audit of a Mailward into a file, one JSON object a
// line, each event once and none left out, and stops where that cannot be said
// any more. It is the example of docs/audit.md and uses nothing but Go's library.
//
//	MAILWARD_TOKEN=... go run ./docs/examples/copyaudit https://mail.example.org events.ndjson
//
// The token is of somebody who may read all of the audit. Run it as often as you
// like (from cron): it goes on where it stopped.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 || os.Getenv("MAILWARD_TOKEN") == "" {
		fmt.Fprintln(os.Stderr, "usage: MAILWARD_TOKEN=... copyaudit URL FILE")
		os.Exit(2)
	}
	if err := run(ctx, strings.TrimRight(os.Args[1], "/"), os.Getenv("MAILWARD_TOKEN"), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "copyaudit:", err)
		os.Exit(1)
	}
}

// state is where the copy is: the number that comes next, and how long the file
// was then. What is longer was written before the last run could say so, and is
// asked for again.
type state struct {
	Cursor int64 `json:"cursor"`
	Size   int64 `json:"size"`
}

// page is one answer of the feed.
type page struct {
	Items []json.RawMessage `json:"items"`
	Gone  []struct {
		First    int64   `json:"first_seq"`
		Last     int64   `json:"last_seq"`
		Protocol *string `json:"protocol"`
	} `json:"gone"`
	Next int64 `json:"next_cursor"`
	Head int64 `json:"head"`
}

func run(ctx context.Context, base, token, file string) error {
	at, err := load(file + ".state")
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(at.Size); err != nil {
		return err
	}
	if _, err := out.Seek(at.Size, 0); err != nil {
		return err
	}
	for {
		p, err := fetch(ctx, base, token, at.Cursor)
		if err != nil {
			return err
		}
		if err := whole(p, at.Cursor); err != nil {
			return err
		}
		for _, e := range p.Items {
			n, err := out.Write(append(e, '\n'))
			if at.Size += int64(n); err != nil {
				return err
			}
		}
		at.Cursor = p.Next
		if err := errors.Join(out.Sync(), save(file+".state", at)); err != nil {
			return err
		}
		if at.Cursor >= p.Head {
			return nil
		}
	}
}

// whole checks that every number from the cursor to the next one is there, or was
// deleted with a protocol.
func whole(p page, next int64) error {
	gone := p.Gone
	skip := func() error {
		for len(gone) > 0 && gone[0].First == next {
			if gone[0].Protocol == nil {
				return fmt.Errorf("events %d to %d were taken away without a protocol", gone[0].First, gone[0].Last)
			}
			next, gone = gone[0].Last+1, gone[1:]
		}
		return nil
	}
	for _, e := range p.Items {
		if err := skip(); err != nil {
			return err
		}
		var ev struct{ Seq int64 }
		if err := json.Unmarshal(e, &ev); err != nil {
			return err
		}
		if ev.Seq != next {
			return fmt.Errorf("event %d came where %d was due: something is missing", ev.Seq, next)
		}
		next++
	}
	if err := skip(); err != nil {
		return err
	}
	if next != p.Next {
		return fmt.Errorf("the page ends at %d and not at %d: something is missing", next, p.Next)
	}
	return nil
}

func fetch(ctx context.Context, base, token string, cursor int64) (p page, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/audit/feed?limit=1000&cursor=%d", base, cursor), nil)
	if err != nil {
		return p, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return p, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return p, fmt.Errorf("the feed answers %s", res.Status)
	}
	return p, json.NewDecoder(res.Body).Decode(&p)
}

func load(name string) (at state, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	return at, json.Unmarshal(b, &at)
}

// save replaces the state whole or not at all.
func save(name string, at state) error {
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
