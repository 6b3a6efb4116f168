package health

import (
	"fmt"
	"strings"
)

// overall derives the state of the whole from its components:
//
//   - a component without which no mail is accepted has failed, or all of a
//     group of which one is needed: down
//   - anything else has failed, is degraded, refuses us or cannot be judged: degraded
//   - everything that is configured works: up; with something in maintenance:
//     maintenance
//   - nothing is known yet: unknown
func overall(list []Status) (State, string) {
	var stopped, weak, maintained []string
	known := false
	for _, s := range list {
		known = known || s.State != Unknown
		switch s.State {
		case Up, NotConfigured:
		case Maintenance:
			maintained = append(maintained, s.Title)
		case Down, NotAuthorised:
			if stops(list, s) {
				stopped = append(stopped, s.Title)
			} else {
				weak = append(weak, s.Title)
			}
		default:
			weak = append(weak, s.Title)
		}
	}
	switch {
	case !known:
		return Unknown, "Nothing has been checked yet."
	case len(stopped) > 0:
		return Down, fmt.Sprintf("Mail is not passed on: %s. Senders are told to try again later; nothing is lost.", names(stopped, "does not work", "do not work"))
	case len(weak) > 0:
		return Degraded, fmt.Sprintf("Look at this: %s.", names(weak, "is not as it should be", "are not as they should be"))
	case len(maintained) > 0:
		return Maintenance, names(maintained, "is in maintenance", "are in maintenance") + "; everything else works."
	}
	return Up, "Everything works."
}

// stops says whether mail is not passed on because of a component that has failed.
func stops(list []Status, s Status) bool {
	return s.Effect == Stops || s.Effect == StopsAsGroup && wholeGroupFailed(list, s.Group)
}

// Stopping says whether mail is not passed on because of a component.
func (r Report) Stopping(s Status) bool {
	return (s.State == Down || s.State == NotAuthorised) && stops(r.Components, s)
}

func wholeGroupFailed(list []Status, group string) bool {
	for _, s := range list {
		if s.Group == group && s.Effect == StopsAsGroup && s.State != Down && s.State != NotAuthorised {
			return false
		}
	}
	return true
}

// names joins titles to a list with the verb that fits their number.
func names(list []string, one, many string) string {
	switch len(list) {
	case 1:
		return list[0] + " " + one
	case 2:
		return list[0] + " and " + list[1] + " " + many
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1] + " " + many
}
