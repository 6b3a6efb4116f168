package alerting

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/audit"
	"mailward/internal/pg"
)

var (
	channelsSQL      = pg.Query(queryFiles, "channels")
	insertChannelSQL = pg.Query(queryFiles, "insert_channel")
	updateChannelSQL = pg.Query(queryFiles, "update_channel")
	deleteChannelSQL = pg.Query(queryFiles, "delete_channel")
)

// Channel is where notifications go.
type Channel struct {
	ID         uuid.UUID     `json:"id"`
	Workspace  uuid.UUID     `json:"workspace_id"` // zero: the installation's
	Name       string        `json:"name"`
	Kind       string        `json:"kind"`
	Target     string        `json:"target"`
	Secret     string        `json:"secret"` // its name in the configuration
	Language   string        `json:"language"`
	Everything bool          `json:"everything"` // also alerts of rules that name no channel
	Severity   rule.Severity `json:"severity"`   // the mildest that it takes
	PerMinute  int           `json:"per_minute"`
	Enabled    bool          `json:"enabled"`
	Version    int64         `json:"version"`
	LastSent   time.Time     `json:"last_sent,omitzero"`
	Waiting    int           `json:"waiting"`
	LastError  string        `json:"last_error,omitempty"` // of the last try; "": it went well
}

// serves says whether alerts of a workspace may go there.
func (c Channel) serves(workspace uuid.UUID) bool {
	return c.Workspace == uuid.Nil || c.Workspace == workspace
}

// needs says what a kind needs: a target, a secret.
func needs(kind string) (target, secret bool) {
	switch kind {
	case channel.Slack, channel.Teams:
		return false, true
	case channel.Webhook:
		return true, true
	case channel.PagerDuty:
		return false, true
	case channel.Wazuh:
		return false, false
	}
	return true, false
}

// SecretNames are those that the configuration has for the installation and for
// the workspaces that somebody may act in.
func (s *Store) SecretNames(may func(workspace uuid.UUID) bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.cfg.Secrets)), func(name string) bool {
		of, err := SecretOf(name)
		return err != nil || of != uuid.Nil && !may(of)
	})
}

// SecretOf is the workspace for which alone a secret is: its id stands before a
// slash in the name. uuid.Nil: for all. A name with a slash and no id is refused
// when the configuration is read, so that a slip does not open a secret to all.
func SecretOf(name string) (workspace uuid.UUID, err error) {
	id, _, bound := strings.Cut(name, "/")
	if !bound {
		return uuid.Nil, nil
	}
	if workspace, err = uuid.Parse(id); err == nil && workspace == uuid.Nil {
		err = errors.New("alerting: no workspace has this id")
	}
	return workspace, err
}

func (s *Store) checkChannel(c *Channel) error {
	bad := func(field, problem string) error { return &rule.InvalidError{Field: field, Problem: problem} }
	c.Name, c.Target = strings.Join(strings.Fields(c.Name), " "), strings.TrimSpace(c.Target)
	if c.Language == "" {
		c.Language = "en"
	}
	if c.Severity == "" {
		c.Severity = rule.Info
	}
	if c.PerMinute == 0 {
		c.PerMinute = 6
	}
	target, secret := needs(c.Kind)
	_, known := s.cfg.Secrets[c.Secret]
	if of, err := SecretOf(c.Secret); err != nil || of != uuid.Nil && of != c.Workspace {
		known = false
	}
	switch {
	case c.Name == "" || len(c.Name) > 100:
		return bad("name", "must have 1 to 100 characters")
	case !slices.Contains(channel.Kinds(), c.Kind):
		return bad("kind", "is not one that there is")
	case c.Language != "en" && c.Language != "de":
		return bad("language", "must be en or de")
	case !slices.Contains(rule.Severities(), c.Severity):
		return bad("severity", "must be info, warn or critical")
	case c.PerMinute < 1 || c.PerMinute > 600:
		return bad("per_minute", "must be 1 to 600")
	case len(c.Target) > 2000 || target && c.Target == "":
		return bad("target", "is needed, of 2000 characters at most")
	case secret && !known:
		return bad("secret", "must be the name of one in alerts.secrets of the configuration")
	case !secret && c.Secret != "":
		return bad("secret", "is not for this kind")
	}
	var err error
	switch c.Kind {
	case channel.Email:
		_, err = channel.Recipients(c.Target)
	case channel.Syslog:
		_, _, err = channel.SyslogTarget(c.Target)
	case channel.Webhook, channel.PagerDuty:
		u, e := url.Parse(c.Target)
		if c.Target != "" && (e != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil) {
			err = errors.New("must be an address such as https://hooks.example.org/mail, without a password in it")
		}
		// Its key goes to the target as it is: where that is, is not for the people of one workspace to choose.
		if u != nil && c.Kind == channel.PagerDuty && c.Workspace != uuid.Nil && c.Target != "" && u.Hostname() != "events.pagerduty.com" && u.Hostname() != "events.eu.pagerduty.com" {
			err = errors.New("must be PagerDuty's own address in a workspace: another one takes a channel of the installation")
		}
	case channel.Slack, channel.Teams, channel.Wazuh:
		if c.Target != "" {
			err = errors.New("is not for this kind")
		}
	}
	if err != nil {
		return bad("target", err.Error())
	}
	return nil
}

func scanChannel(row pgx.CollectableRow) (c Channel, err error) {
	var sent *time.Time
	err = row.Scan(&c.ID, &c.Workspace, &c.Name, &c.Kind, &c.Target, &c.Secret, &c.Language, &c.Everything, &c.Severity, &c.PerMinute, &c.Enabled, &c.Version, &sent, &c.Waiting, &c.LastError)
	c.LastSent = orZero(sent)
	return c, err
}

// Channels lists all of them by name.
func (s *Store) Channels(ctx context.Context) ([]Channel, error) {
	rows, err := s.db.Query(ctx, channelsSQL, nil)
	if err != nil {
		return nil, fmt.Errorf("read alert channels: %w", err)
	}
	return pgx.CollectRows(rows, scanChannel)
}

// Channel finds one.
func (s *Store) Channel(ctx context.Context, id uuid.UUID) (Channel, error) {
	rows, err := s.db.Query(ctx, channelsSQL, id)
	if err != nil {
		return Channel{}, fmt.Errorf("read alert channel: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanChannel)
	if errors.Is(err, pgx.ErrNoRows) {
		return Channel{}, ErrNotFound
	}
	return c, err
}

// PutChannel makes a channel, or changes the one with its id that is still of
// its version.
func (s *Store) PutChannel(ctx context.Context, who Person, c Channel) (Channel, error) {
	if err := s.checkChannel(&c); err != nil {
		return Channel{}, err
	}
	fresh := c.ID == uuid.Nil
	err := s.db.Act(ctx, who.Actor, func(ctx context.Context, tx pgx.Tx) (err error) {
		if fresh {
			if c.ID, err = uuid.NewV7(); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, insertChannelSQL, c.ID, pg.NullID(c.Workspace), c.Name, c.Kind, c.Target, c.Secret, c.Language, c.Everything, c.Severity, c.PerMinute, c.Enabled)
			return err
		}
		tag, err := tx.Exec(ctx, updateChannelSQL, c.ID, c.Version, c.Name, c.Target, c.Secret, c.Language, c.Everything, c.Severity, c.PerMinute, c.Enabled)
		return changed(tag.RowsAffected(), err)
	})
	if pg.IsUnique(err, "alert_channel_name_idx") {
		return Channel{}, ErrExists
	}
	if err != nil {
		return Channel{}, fmt.Errorf("store alert channel %s: %w", c.Name, err)
	}
	return s.Channel(ctx, c.ID)
}

// DeleteChannel removes a channel. Its log stays.
func (s *Store) DeleteChannel(ctx context.Context, who Person, id uuid.UUID, version int64, reason string) error {
	if !goodReason(strings.TrimSpace(reason)) {
		return ErrReasonRequired
	}
	return s.act(pg.WithReason(ctx, strings.TrimSpace(reason)), who, deleteChannelSQL, id, version)
}

// Test sends a message that says it is a test. That a channel was tried, and when, is
// what an auditor asks for.
func (s *Store) Test(ctx context.Context, who Person, id uuid.UUID) (uuid.UUID, error) {
	c, err := s.Channel(ctx, id)
	if err != nil {
		return uuid.Nil, err
	}
	var n uuid.UUID
	err = s.db.Act(ctx, who.Actor, func(ctx context.Context, tx pgx.Tx) (err error) {
		if n, err = s.enqueue(ctx, tx, id, channel.Message{Test: true, Note: who.Name, Alerts: []channel.Alert{}}); err != nil {
			return err
		}
		_, err = s.deps.Audit.Append(ctx, tx, audit.Event{Action: audit.ChannelTest, Workspace: c.Workspace, Actor: who.Actor,
			Targets: []audit.Target{{Type: "alert_channel", ID: id.String()}, {Type: "notification", ID: n.String()}}})
		return err
	})
	return n, err
}
