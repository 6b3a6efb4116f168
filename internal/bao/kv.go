package bao

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/openbao/openbao/api/v2"
)

// KVGet reads the newest version of a secret, and its number. A secret that was
// never there and one that was deleted are both ErrNotFound; the number then is
// what KVPutCAS must be given to write it (0 if it was never there).
func (c *Client) KVGet(ctx context.Context, path string) (data map[string]any, version int, err error) {
	what := "read secret " + path
	if err := secretPath(path); err != nil {
		return nil, 0, fmt.Errorf("read a secret: %w", err)
	}
	err = c.call(ctx, what, func(ctx context.Context, a *api.Client) error {
		s, err := a.KVv2(c.cfg.MountKV).Get(ctx, path)
		if err != nil {
			return err
		}
		if s.VersionMetadata != nil {
			version = s.VersionMetadata.Version
		}
		if s.Data == nil {
			return ErrNotFound // deleted: a 404 with a body
		}
		data = s.Data
		return nil
	})
	return data, version, err
}

// KVPutCAS writes a secret if version is still its newest (0: it must not be
// there), and returns the new number. ErrConflict says that it was not. An error
// other than that does not mean that nothing was written: read it again.
func (c *Client) KVPutCAS(ctx context.Context, path string, data map[string]any, version int) (int, error) {
	what := "write secret " + path
	if err := secretPath(path); err != nil {
		return 0, fmt.Errorf("write a secret: %w", err)
	}
	next := 0
	err := c.call(ctx, what, func(ctx context.Context, a *api.Client) error {
		s, err := a.KVv2(c.cfg.MountKV).Put(ctx, path, data, api.WithCheckAndSet(version))
		if err != nil {
			if conflict(err) {
				return ErrConflict
			}
			return err
		}
		if s.VersionMetadata == nil || s.VersionMetadata.Version < 1 {
			return errAnswer
		}
		next = s.VersionMetadata.Version
		return nil
	})
	return next, err
}

// conflict knows a lost race by the server's text: its status, 400, says nothing.
func conflict(err error) bool {
	var re *api.ResponseError
	return errors.As(err, &re) && re.StatusCode == http.StatusBadRequest &&
		strings.Contains(strings.Join(re.Errors, " "), "check-and-set parameter did not match")
}

// secretPath refuses what could reach outside the engine.
func secretPath(p string) error {
	for part := range strings.SplitSeq(p, "/") {
		if name(part) != nil {
			return fmt.Errorf("%w: not the path of a secret", ErrBadRequest)
		}
	}
	return nil
}
