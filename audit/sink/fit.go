package sink

import (
	"encoding/json"
	"fmt"
	"maps"

	"mailward/audit"
)

// core is what stays of an event however long it is: by these the whole of it is
// found, and known to be the same.
var core = []string{"action", "id", "leaf_hash", "schema", "seq", "severity", "time", "type"}

// fit encodes an event in at most limit bytes, for readers that cut off or drop what
// is longer. Then it loses what changed, after that what it is about, and says so.
func fit(line audit.Line, limit int, shape func(map[string]any) any) ([]byte, error) {
	fields := maps.Clone(line.Fields)
	b, err := json.Marshal(shape(fields))
	for _, lose := range [][]string{{"change"}, {"targets", "approval", "attestation"}} {
		if err != nil || len(b) <= limit {
			break
		}
		for _, k := range lose {
			fields[k] = nil
		}
		fields["truncated"] = true
		b, err = json.Marshal(shape(fields))
	}
	if err == nil && len(b) > limit {
		short := map[string]any{"truncated": true}
		for _, k := range core {
			if v, ok := line.Fields[k]; ok {
				short[k] = v
			}
		}
		b, err = json.Marshal(shape(short))
	}
	if err != nil {
		return nil, fmt.Errorf("encode event %d: %w", line.Seq, err)
	}
	return b, nil
}
