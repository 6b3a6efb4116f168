package health

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// StatusError is an HTTP answer that is none of those that are good.
type StatusError struct{ Status int }

// Error implements error.
func (e *StatusError) Error() string {
	return "answered " + strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
}

// failed turns what went wrong on the way to a server into a state: a server that
// answers and refuses us is not one that is gone, and an expired certificate is
// not a broken network. title is an argument of a sentence, meaning what it means for
// mail.
func failed(title string, err error, meaning Text) Result {
	r := Result{State: Down, Code: "unreachable", Detail: harmless(err), Reason: say("answers_not", title).with(meaning)}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var status *StatusError
	switch {
	case errors.As(err, &status):
		return refusedWith(title, status.Status, meaning)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.Code, r.Reason = "tls_expired", say("tls_expired", title).with(meaning).and("tls_expired.do")
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &host):
		r.Code, r.Reason = "tls_untrusted", say("tls_untrusted", title).with(meaning).and("tls_untrusted.do")
	case isTimeout(err):
		r.Code, r.Reason = "timeout", say("late_answer", title).with(meaning)
	}
	return r
}

// refusedWith judges a status that is not good.
func refusedWith(title string, status int, meaning Text) Result {
	r := Result{State: Down, Code: "wrong_status", Detail: (&StatusError{status}).Error(), Reason: say("wrong_status", title).with(meaning)}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r.State, r.Code, r.Reason = NotAuthorised, "refused", say("key_refused", title).with(meaning).and("key_refused.do")
	case status == http.StatusTooManyRequests:
		r.State, r.Code, r.Reason = Degraded, "too_many", say("too_many", title).with(meaning)
		r.RetryAfter = time.Minute
	case status >= 500:
		r.Code = "server_error"
	}
	return r
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// harmless is an error without the address that was asked: it can hold a key.
func harmless(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}
