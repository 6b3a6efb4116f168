package rule

import (
	"encoding/json"
	"fmt"
	"time"
)

// plainSpec is a Spec without its methods.
type plainSpec Spec

// writtenSpec has lengths of time as people write them: in the database and on
// record, a rule is read by people.
type writtenSpec struct {
	*plainSpec
	Window   string `json:"window"`
	For      string `json:"for"`
	Cooldown string `json:"cooldown"`
}

// MarshalJSON implements [json.Marshaler].
func (s Spec) MarshalJSON() ([]byte, error) {
	p := plainSpec(s)
	return json.Marshal(writtenSpec{&p, s.Window.String(), s.For.String(), s.Cooldown.String()})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Spec) UnmarshalJSON(b []byte) error {
	w := writtenSpec{plainSpec: (*plainSpec)(s)}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	for _, x := range []struct {
		text string
		to   *time.Duration
	}{{w.Window, &s.Window}, {w.For, &s.For}, {w.Cooldown, &s.Cooldown}} {
		d, err := time.ParseDuration(x.text)
		if err != nil {
			return fmt.Errorf("length of time %q: %w", x.text, err)
		}
		*x.to = d
	}
	return nil
}
