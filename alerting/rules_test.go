package alerting

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/channel"
	"mailward/alerting/rule"
	"mailward/audit"
)

func TestRules_VersionsAndRevert(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	if err := f.InstallPack(ctx); err != nil { // again: nothing is doubled
		t.Fatal(err)
	}
	rules, err := f.Rules(ctx)
	if err != nil || len(rules) != len(pack()) {
		t.Fatalf("%v: %d rules", err, len(rules))
	}
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Pack == "phishing_spike" })
	r := rules[i]
	r.Spec.Threshold = 3
	if _, err := f.PutRule(ctx, admin, r, ""); !errors.Is(err, ErrReasonRequired) {
		t.Errorf("a critical rule without a reason: %v", err)
	}
	n, err := f.PutRule(ctx, admin, r, "campaign under way")
	if err != nil || n.Number != 2 || n.Spec.Threshold != 3 || n.ChangedBy != "Root" {
		t.Fatalf("%v: %+v", err, n)
	}
	if _, err := f.PutRule(ctx, admin, r, "late to the party"); !errors.Is(err, ErrConflict) {
		t.Errorf("of an old version: %v", err)
	}
	if n, err = f.Revert(ctx, admin, n.ID, n.Version, 1, "campaign is over"); err != nil || n.Number != 3 || n.Spec.Threshold != 30 {
		t.Fatalf("%v: %+v", err, n)
	}
	list, err := f.Versions(ctx, n.ID)
	if err != nil || len(list) != 3 || list[0].Reason != "campaign is over" || list[1].Spec.Threshold != 3 {
		t.Errorf("%v: %+v", err, list)
	}
	if err := f.DeleteRule(ctx, admin, n.ID, n.Version, "not ours"); err != nil {
		t.Fatal(err)
	}
	if err := f.InstallPack(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Rule(ctx, n.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted default rule came back: %v", err)
	}
	own, err := f.PutRule(ctx, admin, Rule{Spec: rule.Spec{Name: "own", Metric: "mails_5min", Compare: rule.Below, Threshold: 1, Cooldown: time.Hour}}, "")
	if err != nil || !own.Enabled {
		t.Errorf("%v: %+v", err, own)
	}
	var invalid *rule.InvalidError
	own.Spec.Channels = []uuid.UUID{uuid.New()}
	if _, err := f.PutRule(ctx, admin, own, ""); !errors.As(err, &invalid) || invalid.Field != "channels" {
		t.Errorf("a channel that there is not: %v", err)
	}
	var before, after string
	err = f.db.QueryRow(ctx, `SELECT convert_from(bytes, 'UTF8')::jsonb -> 'change' -> 'before' -> 'spec' ->> 'threshold', convert_from(bytes, 'UTF8')::jsonb -> 'change' -> 'after' -> 'spec' ->> 'threshold'
		FROM audit.event WHERE action = 'alert.rule.update' ORDER BY id LIMIT 1`).Scan(&before, &after)
	if err != nil || before != "30" || after != "3" {
		t.Errorf("on record: %v, %s to %s", err, before, after)
	}
}

func TestChannels_Checked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tt := range []struct {
		field string
		c     Channel
	}{
		{"name", Channel{Kind: channel.Wazuh}},
		{"kind", Channel{Name: "x", Kind: "pigeon"}},
		{"secret", Channel{Name: "x", Kind: channel.Slack}},
		{"secret", Channel{Name: "x", Kind: channel.Slack, Secret: "/etc/shadow"}},
		{"secret", Channel{Name: "x", Kind: channel.Email, Target: "a@b.example", Secret: "hook"}},
		{"target", Channel{Name: "x", Kind: channel.Slack, Secret: "hook", Target: "https://x"}},
		{"target", Channel{Name: "x", Kind: channel.Webhook, Secret: "hook"}},
		{"target", Channel{Name: "x", Kind: channel.Webhook, Secret: "hook", Target: "file:///etc/passwd"}},
		{"target", Channel{Name: "x", Kind: channel.Webhook, Secret: "hook", Target: "https://u:p@x.example"}},
		{"target", Channel{Name: "x", Kind: channel.Email, Target: "nobody"}},
		{"target", Channel{Name: "x", Kind: channel.Syslog, Target: "logs:514"}},
		{"per_minute", Channel{Name: "x", Kind: channel.Wazuh, PerMinute: 601}},
	} {
		var invalid *rule.InvalidError
		if _, err := f.PutChannel(t.Context(), admin, tt.c); !errors.As(err, &invalid) || invalid.Field != tt.field {
			t.Errorf("%+v: %v, want a mistake in %s", tt.c, err, tt.field)
		}
	}
	two := uuid.MustParse("00000000-0000-7000-8000-000000000002")
	theirs := Channel{Name: "theirs", Kind: channel.Slack, Secret: two.String() + "/hook"}
	var invalid *rule.InvalidError
	if _, err := f.PutChannel(t.Context(), admin, theirs); !errors.As(err, &invalid) || invalid.Field != "secret" {
		t.Errorf("the secret of a workspace for all: %v", err)
	}
	f.exec("INSERT INTO workspace (id, name) VALUES ('00000000-0000-7000-8000-000000000002', 'two')")
	theirs.Workspace = two
	if _, err := f.PutChannel(t.Context(), admin, theirs); err != nil {
		t.Errorf("a workspace may not use its own secret: %v", err)
	}
	if none, own := f.SecretNames(func(uuid.UUID) bool { return false }), f.SecretNames(func(w uuid.UUID) bool { return w == two }); len(none) != 1 || len(own) != 2 {
		t.Errorf("shown: %v and %v", none, own)
	}
	f.channel(nil)
	if _, err := f.PutChannel(t.Context(), admin, Channel{Name: "SOC", Kind: channel.Wazuh}); !errors.Is(err, ErrExists) {
		t.Errorf("same name: %v", err)
	}
}

// TestChannel_TestIsOnRecord: a channel that is tried is an act, though no row of ours
// changes by it.
func TestChannel_TestIsOnRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.channel(nil)
	n, err := f.Test(t.Context(), admin, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Test(t.Context(), admin, uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a channel that is not there: %v", err)
	}
	page, err := f.deps.Audit.List(t.Context(), audit.Filter{Action: audit.ChannelTest})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%d events, %v", len(page.Items), err)
	}
	if text := fmt.Sprint(page.Items[0].Fields()["targets"]); !strings.Contains(text, c.ID.String()) || !strings.Contains(text, n.String()) {
		t.Errorf("it is about %s", text)
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	w := uuid.New()
	all, named, off, theirs := Channel{ID: uuid.New(), Enabled: true, Everything: true, Severity: rule.Warn}, Channel{ID: uuid.New(), Enabled: true, Severity: rule.Info},
		Channel{ID: uuid.New(), Severity: rule.Info}, Channel{ID: uuid.New(), Workspace: w, Enabled: true, Everything: true, Severity: rule.Info}
	list := []Channel{all, named, off, theirs}
	for _, tt := range []struct {
		name string
		spec rule.Spec
		w    uuid.UUID
		want []uuid.UUID
	}{
		{"everything", rule.Spec{Severity: rule.Critical}, uuid.Nil, []uuid.UUID{all.ID}},
		{"too mild", rule.Spec{Severity: rule.Info}, uuid.Nil, nil},
		{"named", rule.Spec{Severity: rule.Info, Channels: []uuid.UUID{named.ID}}, uuid.Nil, []uuid.UUID{named.ID}},
		{"named and off: not lost", rule.Spec{Severity: rule.Warn, Channels: []uuid.UUID{off.ID}}, uuid.Nil, []uuid.UUID{all.ID}},
		{"of a workspace", rule.Spec{Severity: rule.Warn}, w, []uuid.UUID{all.ID, theirs.ID}},
		{"not of another's", rule.Spec{Severity: rule.Warn, Channels: []uuid.UUID{theirs.ID}}, uuid.New(), []uuid.UUID{all.ID}},
	} {
		var got []uuid.UUID
		for _, c := range route(list, tt.spec, tt.w) {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	var o outage
	at := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	got := ""
	for _, away := range []bool{false, true, false, true, true, true, true, true, true, true, true, false, false} {
		got += map[rule.Notice]string{rule.Nothing: ".", rule.Alarmed: "A", rule.Ended: "E"}[o.step(away, at)]
		at = at.Add(fallbackEvery)
	}
	if got != ".........A.E." {
		t.Errorf("got %s", got)
	}
}

func TestBacktest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, h := range []time.Duration{3, 20, 40} {
		f.bucket("phishing_rate_5min", "ours.example", h*time.Hour, 50)
		for ago := h*time.Hour - 5*time.Minute; ago > (h-1)*time.Hour; ago -= 10 * time.Minute {
			f.bucket("phishing_rate_5min", "ours.example", ago, 0)
		}
	}
	spec := pack()[0].spec
	got, err := f.Backtest(t.Context(), Rule{Spec: spec}, 7)
	if err != nil || len(got.Episodes) != 3 || got.Sent != 3 || len(got.Points) != 7*288+1 {
		t.Errorf("%v: %d episodes, %d sent, %d points", err, len(got.Episodes), got.Sent, len(got.Points))
	}
	to := time.Now().UTC()
	p, err := f.Series(t.Context(), "phishing_rate_5min", nil, true, "ours.example", to.Add(-24*time.Hour), to, time.Hour)
	total := 0.0
	for _, x := range p {
		total += x.Value
	}
	if err != nil || total != 100 {
		t.Errorf("%v: %v in a day", err, total)
	}
}
