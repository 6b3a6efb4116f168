package intel

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	mispPage    = 5_000
	mispOverlap = 10 * time.Minute // two clocks, and what is saved while we read
	taxiiPages  = 2_000
)

// mispKinds are the types of attributes that a mail can be looked up by. What
// names a victim (email-dst) or only refers (link) is none.
var mispKinds = map[string]Kind{"domain": Domain, "hostname": Domain, "url": URL, "uri": URL, "ip-src": IP, "ip-dst": IP, "ip-src|port": IP, "ip-dst|port": IP,
	"sha256": SHA256, "filename|sha256": SHA256, "email": Email, "email-src": Email, "email-reply-to": Email, "domain|ip": Domain}

type mispAttribute struct {
	Type      string `json:"type"`
	ToIDs     bool   `json:"to_ids"`
	Timestamp string `json:"timestamp"`
	Deleted   bool   `json:"deleted"`
	Value     string `json:"value"`
	Comment   string `json:"comment"`
	Event     struct {
		ID   string `json:"id"`
		Info string `json:"info"`
	} `json:"Event"`
}

func (m mispAttribute) value() (kind Kind, value string, ok bool) {
	kind, ok = mispKinds[m.Type]
	value = m.Value
	switch m.Type {
	case "filename|sha256": // A name may itself have a bar.
		value = value[strings.LastIndexByte(value, '|')+1:]
	case "ip-src|port", "ip-dst|port", "domain|ip":
		value, _, _ = strings.Cut(value, "|")
	}
	return kind, value, ok
}

// fetchMISP asks for what has changed since the last run, page by page: without
// a limit the server sends everything. Deleted attributes and those that are no
// longer for detection are asked for too, to be taken back.
func (c *client) fetchMISP(ctx context.Context, last feedState, now time.Time) (a answer, err error) {
	types := make([]string, 0, len(mispKinds))
	for t := range mispKinds {
		types = append(types, t)
	}
	ask := map[string]any{"returnFormat": "json", "type": types, "published": 1, "enforceWarninglist": 1, "limit": mispPage}
	since, err := strconv.ParseInt(last.cursor, 10, 64)
	if first := err != nil; first {
		ask["to_ids"], ask["deleted"] = 1, 0
		ask["timestamp"] = strconv.FormatInt(now.Add(-c.cfg.Expiry).Unix(), 10)
	} else {
		ask["deleted"], ask["timestamp"] = []int{0, 1}, strconv.FormatInt(since-int64(mispOverlap/time.Second), 10)
	}
	a.cursor = strconv.FormatInt(now.Unix(), 10)
	for page := 1; ; page++ {
		ask["page"] = page
		var reply struct {
			Response struct{ Attribute []mispAttribute } `json:"response"`
		}
		if err := c.misp(ctx, "/attributes/restSearch", ask, &reply); err != nil {
			return a, err
		}
		if len(reply.Response.Attribute) == 0 {
			return a, nil
		}
		for _, m := range reply.Response.Attribute {
			c.takeMISP(&a, m, now)
		}
		if len(a.list)+len(a.gone) > feedRowsMost {
			return a, tooManyRows()
		}
	}
}

func (c *client) takeMISP(a *answer, m mispAttribute, now time.Time) {
	kind, value, ok := m.value()
	if !ok {
		return
	}
	if m.Deleted || !m.ToIDs {
		if v, err := Parse(kind, value); err == nil {
			a.gone = append(a.gone, v)
		}
		return
	}
	seen := readTime(m.Timestamp)
	note := m.Event.Info
	if m.Comment != "" {
		note += ": " + m.Comment
	}
	a.take(Indicator{Value: value, origin: value, Kind: kind, Confidence: -1, FirstSeen: seen, LastSeen: seen, Note: note, Reference: strings.TrimSuffix(c.cfg.URL, "/") + "/events/view/" + m.Event.ID}, c.cfg, now)
}

// misp makes one call. The key stands alone in its header, without a scheme.
func (c *client) misp(ctx context.Context, path string, ask, reply any) error {
	b, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, strings.TrimSuffix(c.cfg.URL, "/")+path, bytes.NewReader(b),
		map[string]string{"Authorization": c.cfg.Key, "Accept": "application/json", "Content-Type": "application/json"})
	if err != nil {
		return err
	}
	if b, err = c.body(resp); err != nil {
		return err
	}
	if err := json.Unmarshal(b, reply); err != nil {
		return feedAlarm(CodeNotAFeed, "the answer is not what MISP says")
	}
	return nil
}

// sight tells MISP that values were seen. That it takes none is answered with 200
// too: it has lost them since, and will not take them later either.
func (c *client) sight(ctx context.Context, values []string, now time.Time) (taken bool, err error) {
	var reply struct {
		Sighting json.RawMessage `json:"Sighting"`
	}
	err = c.misp(ctx, "/sightings/add", map[string]any{"values": values, "type": "0", "source": "mailward", "timestamp": now.Unix()}, &reply)
	return reply.Sighting != nil, err
}

// fetchTAXII reads a collection of a TAXII 2.1 server from where the last run
// ended (OASIS TAXII 2.1 §5.4), and its STIX 2.1 indicators.
func (c *client) fetchTAXII(ctx context.Context, last feedState, now time.Time) (a answer, err error) {
	base := strings.TrimSuffix(c.cfg.URL, "/") + "/objects/?match%5Btype%5D=indicator&limit=1000"
	if last.cursor != "" {
		base += "&added_after=" + last.cursor
	}
	a.cursor = last.cursor
	next := ""
	for range taxiiPages {
		header := map[string]string{"Accept": "application/taxii+json;version=2.1"}
		if c.cfg.Key != "" {
			header["Authorization"] = c.cfg.Key
		}
		resp, err := c.do(ctx, http.MethodGet, base+next, nil, header)
		if err != nil {
			return a, err
		}
		added := resp.Header.Get("X-TAXII-Date-Added-Last")
		b, err := c.body(resp)
		if err != nil {
			return a, err
		}
		var page struct {
			More    bool            `json:"more"`
			Next    string          `json:"next"`
			Objects []stixIndicator `json:"objects"`
		}
		if err := json.Unmarshal(b, &page); err != nil {
			return a, feedAlarm(CodeNotAFeed, "the answer is not what TAXII 2.1 says")
		}
		for _, o := range page.Objects {
			c.takeSTIX(&a, o, now)
		}
		if t := readTime(added); !t.IsZero() {
			a.cursor = t.Format(time.RFC3339Nano)
		}
		if !page.More || page.Next == "" {
			return a, nil
		}
		if len(a.list)+len(a.gone) > feedRowsMost {
			return a, tooManyRows()
		}
		next = "&next=" + urlQuery(page.Next)
	}
	return a, feedAlarm(CodeTooMuch, "it has more than %d pages", taxiiPages)
}
