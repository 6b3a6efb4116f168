package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is what came back.
type answer struct {
	status int
	body   string
}

// post sends JSON. The address is used byte for byte, as some are signed, and it
// may be a secret: no error repeats it.
func (s *Sender) post(ctx context.Context, address string, body any, header http.Header) (answer, error) {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return answer{}, permanent("message cannot be written: %v", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(raw))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return answer{}, permanent("the address is not one of the web")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Mailward")
	res, err := s.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the address
		}
		if errors.Is(err, errPrivate) {
			return answer{}, permanent("%s: %v", req.URL.Hostname(), errPrivate)
		}
		return answer{}, temporary("no answer from %s: %v", req.URL.Hostname(), err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, temporary("answer of %s broke off: %v", req.URL.Hostname(), err)
	}
	a := answer{res.StatusCode, strings.TrimSpace(string(b))}
	return a, judge(res, a)
}

// judge tells failures that pass from those that do not.
func judge(res *http.Response, a answer) error {
	text := "answer " + strconv.Itoa(a.status)
	if said := harmless(a.body, 200); said != "" {
		text += ": " + said
	}
	switch {
	case a.status/100 == 2:
		return nil
	case a.status/100 == 3:
		return &FailedError{Text: text + " (redirections are not followed)", Permanent: true}
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		return &FailedError{Text: text, After: retryAfter(res.Header.Get("Retry-After"))}
	case a.status/100 == 4:
		return &FailedError{Text: text, Permanent: true}
	}
	return &FailedError{Text: text, After: retryAfter(res.Header.Get("Retry-After"))}
}

// longestAfter bounds how long another side can make us wait.
const longestAfter = time.Hour

// retryAfter reads RFC 9110 §10.2.3: seconds or a date.
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, longestAfter)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(t), 0), longestAfter)
	}
	return 0
}

// harmless is a text of somebody else, for a log: one line, no control characters.
func harmless(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == '\ufffd' {
			return ' '
		}
		return r
	}, s)
	return cut(strings.Join(strings.Fields(s), " "), most)
}

// cut shortens a text, at a character.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
