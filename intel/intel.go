// Package intel knows what others have found to be bad: domains, web addresses,
// IP addresses, mail addresses and digests of files, from feeds and from people.
//
// On a mail's path its judge is asked once the mail is read. What the mail names
// is looked up in a filter in memory first, so that a mail without hits costs
// next to nothing; only what the filter may have is asked of the database. An
// analyst's override stands above all feeds. Where the database does not answer
// in time nothing is known, and the mail's record says so: feeds are more
// evidence, and no mail waits for them.
package intel

import (
	"embed"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/internal/pg"
	"mailward/policy"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	addFeedSQL        = pg.Query(queryFiles, "add_feed")
	claimFeedSQL      = pg.Query(queryFiles, "claim_feed")
	endFeedSQL        = pg.Query(queryFiles, "end_feed")
	feedStatesSQL     = pg.Query(queryFiles, "feed_states")
	syncNowSQL        = pg.Query(queryFiles, "sync_now")
	untoldSQL         = pg.Query(queryFiles, "untold")
	toldSQL           = pg.Query(queryFiles, "told")
	countSQL          = pg.Query(queryFiles, "count")
	keysSQL           = pg.Query(queryFiles, "keys")
	horizonSQL        = pg.Query(queryFiles, "horizon")
	warninglistsSQL   = pg.Query(queryFiles, "warninglists")
	putWarninglistSQL = pg.Query(queryFiles, "put_warninglist")
	clearHarmlessSQL  = pg.Query(queryFiles, "clear_harmless")
	findSQL           = pg.Query(queryFiles, "find")
	putSQL            = pg.Query(queryFiles, "put_indicators")
	retractSQL        = pg.Query(queryFiles, "retract")
	sweepSQL          = pg.Query(queryFiles, "sweep")
	countHitsSQL      = pg.Query(queryFiles, "count_hits")
	listSQL           = pg.Query(queryFiles, "list_indicators")
	sourcesSQL        = pg.Query(queryFiles, "sources")
	overridesSQL      = pg.Query(queryFiles, "overrides")
	listOverridesSQL  = pg.Query(queryFiles, "list_overrides")
	getOverrideSQL    = pg.Query(queryFiles, "get_override")
	insertOverrideSQL = pg.Query(queryFiles, "insert_override")
	deleteOverrideSQL = pg.Query(queryFiles, "delete_override")
)

// Indicator is a value that a source calls bad.
type Indicator struct {
	Value      string       `json:"value"`
	Kind       Kind         `json:"kind"`
	Source     string       `json:"source" doc:"name of the feed, or of the import"`
	Class      policy.Class `json:"class"`
	Confidence int          `json:"confidence" minimum:"0" maximum:"100"`
	FirstSeen  time.Time    `json:"first_seen"`
	LastSeen   time.Time    `json:"last_seen"`
	ExpiresAt  time.Time    `json:"expires_at"`
	Note       string       `json:"note,omitempty"`
	Reference  string       `json:"reference,omitempty"`
	Hits       int64        `json:"hits"`
	LastHitAt  *time.Time   `json:"last_hit_at,omitempty"`

	origin string // the value as its source writes it, where it has to hear of hits
}

func (i Indicator) key() int64 { return Value{i.Kind, i.Value}.key() }

// Breach is the class of a domain whose owner criminals say they have robbed. It
// never makes a mail bad: somebody who knows the sender wants to know.
const Breach policy.Class = "breach"

// Classes are those that an indicator of something bad can be of.
func Classes() []policy.Class {
	return []policy.Class{policy.Malware, policy.Phishing, policy.Suspicious, policy.Spam}
}

// The effects of an override.
const (
	Allow = "allow"
	Block = "block"
)

// Override is what an analyst says of a value: it stands above all feeds.
type Override struct {
	ID        uuid.UUID    `json:"id"`
	Workspace *uuid.UUID   `json:"workspace_id" doc:"null: the whole installation"`
	Effect    string       `json:"effect" enum:"allow,block"`
	Kind      Kind         `json:"kind"`
	Value     string       `json:"value"`
	Class     policy.Class `json:"class,omitempty" doc:"that a block gives"`
	Owner     string       `json:"owner"`
	Reason    string       `json:"reason"`
	ExpiresAt *time.Time   `json:"expires_at" doc:"an allow always has one"`
	CreatedBy string       `json:"created_by"`
	Version   int64        `json:"version"`
	CreatedAt time.Time    `json:"created_at"`
	UpdatedAt time.Time    `json:"updated_at"`
}

// Defang writes a value so that nobody follows it by mistake.
func Defang(s string) string {
	s = strings.Replace(s, "http://", "hxxp://", 1)
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		rest, scheme = s, ""
	} else {
		scheme += "://"
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	return scheme + strings.ReplaceAll(strings.ReplaceAll(rest[:end], ".", "[.]"), "@", "[@]") + rest[end:]
}
