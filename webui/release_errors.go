package webui

import (
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mailward/gateway/queue"
	"mailward/quarantine"
	"mailward/quarantine/digest"
)

// releaseErrors are what a release, and what belongs to it, can be refused for.
var releaseErrors = []struct {
	err    error
	status int
}{
	{quarantine.ErrLegalHold, http.StatusConflict},
	{quarantine.ErrTooLate, http.StatusConflict}, {quarantine.ErrStopped, http.StatusConflict}, {quarantine.ErrOwnMail, http.StatusConflict},
	{quarantine.ErrReasonCode, http.StatusUnprocessableEntity}, {quarantine.ErrNotServed, http.StatusUnprocessableEntity}, {quarantine.ErrBadRule, http.StatusUnprocessableEntity},
	{digest.ErrSetting, http.StatusUnprocessableEntity}, {digest.ErrConflict, http.StatusConflict}, {digest.ErrNothing, http.StatusConflict}, {queue.ErrNoRoute, http.StatusConflict},
	{quarantine.ErrEnginesSilent, http.StatusServiceUnavailable},
}

// releaseStatus is the status of such a refusal; 0: it is none.
func releaseStatus(err error) int {
	for _, r := range releaseErrors {
		if errors.Is(err, r.err) {
			return r.status
		}
	}
	return 0
}

// releaseProblem says it to a program; nil: it is none.
func releaseProblem(err error) error {
	for _, r := range releaseErrors {
		if errors.Is(err, r.err) {
			return huma.NewError(r.status, strings.TrimPrefix(publicText(r.err), "digest: "))
		}
	}
	return nil
}
