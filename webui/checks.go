package webui

import (
	"encoding/json"
	"strings"
)

// senderCheck is what one method says of who sent a mail.
type senderCheck struct {
	Method string `json:"method"`
	Result string `json:"result"`
	Domain string `json:"domain"`
	Reason string `json:"reason"`
}

// checksOf reads the results that the gateway stored; none when there are none
// or when they are not in a form that we know.
func checksOf(auth []byte) []senderCheck {
	var list []senderCheck
	if json.Unmarshal(auth, &list) != nil {
		return nil
	}
	return list[:min(len(list), 20)]
}

func (c senderCheck) name() string { return strings.ToUpper(plain(c.Method, 12)) }

func (c senderCheck) tone() string {
	switch c.Result {
	case "pass":
		return "ok"
	case "fail", "permerror":
		return "crit"
	case "softfail", "temperror":
		return "warn"
	}
	return "none"
}
