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
// not a broken network. meaning is what it means for mail.
func failed(title string, err error, meaning string) Result {
	r := Result{State: Down, Code: "unreachable", Detail: harmless(err), Reason: title + " does not answer. " + meaning}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var status *StatusError
	switch {
	case errors.As(err, &status):
		return refusedWith(title, status.Status, meaning)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.Code, r.Reason = "tls_expired", "The certificate of "+title+" is expired or not valid yet, so nothing is said to it. "+meaning+" Have the certificate renewed, and check the clocks."
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &host):
		r.Code, r.Reason = "tls_untrusted", "The certificate of "+title+" is not one that we believe, so nothing is said to it. "+meaning+" Check its name and who signed it."
	case isTimeout(err):
		r.Code, r.Reason = "timeout", title+" does not answer in time. "+meaning
	}
	return r
}

// refusedWith judges a status that is not good.
func refusedWith(title string, status int, meaning string) Result {
	r := Result{State: Down, Code: "wrong_status", Detail: (&StatusError{status}).Error(), Reason: title + " answers with an error. " + meaning}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r.State, r.Code, r.Reason = NotAuthorised, "refused", title+" answers but does not take our key. "+meaning+" Check whether it has expired or lacks a right."
	case status == http.StatusTooManyRequests:
		r.State, r.Code, r.Reason = Degraded, "too_many", title+" says that we ask too often. "+meaning
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
