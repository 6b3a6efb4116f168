package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// flatConnections is the load under which an empty and a full ledger are compared.
const flatConnections = 8

// fillSQL copies the newest decision and its outcome as often as wanted, with
// ids spread over the day so far and other hashes. It runs as the database's
// superuser: the program itself could not write the past.
const fillSQL = `WITH template AS MATERIALIZED (SELECT m FROM mail m WHERE action = 'deliver' ORDER BY id DESC LIMIT 1),
    added AS (
        INSERT INTO mail
        SELECT r.* FROM template, generate_series(1, $1::int) g,
            LATERAL (SELECT date_trunc('day', now()) + (now() - date_trunc('day', now())) * (g::float8 / $1::int) AS at, md5('mail' || g) AS h) x,
            LATERAL jsonb_populate_record(template.m, jsonb_build_object(
                'id', left(audit.uuid_at(x.at)::text, 14) || '7' || substr(x.h, 1, 3) || '-8' || substr(x.h, 4, 3) || '-' || substr(x.h, 7, 12),
                'received_at', x.at, 'sha256', '\x' || x.h || x.h, 'message_id', '<' || x.h || '@filled.example>')) r
        RETURNING id, received_at)
INSERT INTO mail_outcome (id, mail_id, recipient, state, next_hop, code, text, at)
SELECT id, id, 'rcpt@' || $2::text, 'relayed', '127.0.0.1:25', 250, '2.0.0 taken', received_at FROM added`

// measureFlat compares what a mail costs with an empty ledger and with a full
// one, in the same process: engines off, so that the ledger has the largest share.
func measureFlat(ctx context.Context, o options, rep *report, out io.Writer) error {
	b, stop, err := startBed(ctx, o, false, out)
	defer stop()
	if err != nil {
		return err
	}
	rep.versions(ctx, b)
	hop, err := newSink()
	if err != nil {
		return err
	}
	defer hop.close()
	chosen, err := choose(mailwardOff)
	if err != nil {
		return err
	}
	p := chosen[0]
	r, err := p.begin(ctx, b, hop.addr())
	if err != nil {
		return err
	}
	defer r.stop()
	c := campaign{name: "flat", peers: chosen, connections: []int{flatConnections}, per: []int{10}, count: o.count, rounds: o.rounds}
	m := measured{campaign: c}
	warm := newGenerator(o.seed, "w").batch(warmMails)
	hop.expect(warm)
	run(ctx, warm, flatConnections, r.open(1))
	for round := 1; round <= 2*o.rounds; round++ {
		if round == o.rounds+1 {
			fmt.Fprintf(out, "flat: filling the ledger with %d rows ...\n", o.rows)
			if err := fillLedger(ctx, r.gateway, o.rows); err != nil {
				return err
			}
		}
		mails := newGenerator(o.seed, fmt.Sprintf("flat%d", round)).batch(o.count)
		res, err := c.one(ctx, o, b, p, r, hop, flatConnections, 10, mails)
		if err != nil {
			return err
		}
		res.Round = round
		fmt.Fprintf(out, "flat run %d: %.1f/s, CPU s/1000: %.2f, others %2.0f%%  %s\n", round, res.Rate, res.gatewayCPU()/float64(res.Mails)*1000, res.Others*100, res.problems())
		m.results = append(m.results, res)
	}
	rep.sections = append(rep.sections, section{"flat", "An empty ledger and a full one", m.flatText(o)})
	return m.verdict()
}

func fillLedger(ctx context.Context, g *gateway, rows int) error {
	c, err := g.database(ctx)
	if err != nil {
		return fmt.Errorf("fill the ledger: %w", err)
	}
	defer c.Close(ctx)
	for _, q := range []struct {
		sql  string
		args []any
	}{{fillSQL, []any{rows, domain}}, {"VACUUM ANALYZE mail", nil}, {"VACUUM ANALYZE mail_outcome", nil}, {"CHECKPOINT", nil}} {
		if _, err := c.Exec(ctx, q.sql, q.args...); err != nil {
			return fmt.Errorf("fill the ledger: %w", err)
		}
	}
	return nil
}

func (m measured) flatText(o options) string {
	half := func(full bool, value func(result) float64) (list spread) {
		for _, r := range m.results {
			if full == (r.Round > o.rounds) {
				list = append(list, value(r))
			}
		}
		slices.Sort(list)
		return list
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Engines off, %d connections, 10 mails over each, %d runs of %d mails with an empty ledger, then as many with %d rows in today's partition (copies of a real row with other ids and hashes, and an outcome row each, written by SQL as the database's superuser).\n\n",
		flatConnections, o.rounds, o.count, o.rows)
	b.WriteString("| what | empty | full | full / empty |\n|---|---|---|---|\n")
	line := func(name string, value func(result) float64) {
		empty, full := half(false, value), half(true, value)
		if empty.median() < 0.005 {
			return
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f |\n", name, empty, full, full.median()/empty.median())
	}
	line("mails/s", rateOf)
	line("p50 ms", p50Of)
	line("p99 ms", p99Of)
	programs := map[string]bool{}
	for _, r := range m.results {
		for name := range r.CPU {
			programs[name] = true
		}
	}
	line("CPU s for 1,000 mails, all processes", gatewayCPUOf)
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		if name != "clamd" && name != "bench" {
			line("CPU s for 1,000 mails, "+name, cpuOf(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		if name != "clamd" && name != "bench" {
			line("peak memory MiB (PSS), "+name, func(r result) float64 { return float64(r.Memory[name]) })
		}
	}
	return b.String()
}
