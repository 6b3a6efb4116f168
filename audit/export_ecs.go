package audit

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ecsVersion is the Elastic Common Schema that the objects follow.
const ecsVersion = "8.17.0"

// ecs writes an event as the Elastic Common Schema does; what it has no field for
// stands under mailward.
func ecs(r Row, m map[string]any) map[string]any {
	outcome := map[string]string{"success": "success", "failure": "failure", "refused": "failure"}[at(m, "outcome", "result")]
	if outcome == "" {
		outcome = "unknown"
	}
	category, kind := ecsKind(m)
	user := bare(map[string]any{"id": deep(m, "actor", "id"), "email": deep(m, "actor", "email"), "name": deep(m, "actor", "display"), "roles": deep(m, "actor", "roles")})
	var users, ips []string
	for _, v := range []string{at(m, "actor", "email"), at(m, "actor", "id")} {
		if v != "" {
			users = append(users, v)
		}
	}
	if ip := sourceOf(m); ip.IsValid() {
		ips = append(ips, ip.String())
	}
	out := map[string]any{
		"@timestamp": at(m, "time"), "ecs": map[string]any{"version": ecsVersion}, "message": at(m, "action"),
		"event": bare(map[string]any{"kind": "event", "module": "mailward", "dataset": "mailward.audit", "id": r.ID.String(), "action": at(m, "action"), "category": category, "type": kind,
			"outcome": outcome, "reason": deep(m, "reason", "text"), "sequence": m["seq"], "hash": m["leaf_hash"], "created": r.RecordedAt.UTC().Format(time.RFC3339Nano),
			"provider": deep(m, "application", "name"), "original": string(r.Bytes)}),
		"user": user, "organization": bare(map[string]any{"id": m["workspace_id"]}), "service": map[string]any{"name": "mailward"},
		"url": bare(map[string]any{"path": deep(m, "request", "path")}), "trace": bare(map[string]any{"id": deep(m, "request", "id")}),
		"observer": bare(map[string]any{"vendor": "Mailward", "product": "Mailward", "hostname": deep(m, "observer", "instance"), "version": deep(m, "application", "version")}),
		"mailward": bare(map[string]any{"auth": m["auth"], "targets": m["targets"], "change": m["change"], "approval": m["approval"], "correlation": m["correlation"],
			"phase": m["phase"], "severity": m["severity"], "db_role": m["db_role"], "outcome": m["outcome"], "actor_type": deep(m, "actor", "type")}),
	}
	if len(ips) > 0 {
		out["source"] = map[string]any{"ip": ips[0]}
	}
	related := map[string]any{}
	if len(users) > 0 {
		related["user"] = users
	}
	if len(ips) > 0 {
		related["ip"] = ips
	}
	out["related"] = related
	http := map[string]any{}
	if method := at(m, "request", "method"); method != "" {
		http["request"] = map[string]any{"method": method}
	}
	if status := whole(deep(m, "request", "status")); status > 0 {
		http["response"] = map[string]any{"status_code": status}
	}
	out["http"] = http
	return bare(out)
}

// sourceOf is the caller's address. Where it was erased, words stand in its place, for
// which a field of addresses has whole events refused.
func sourceOf(m map[string]any) netip.Addr {
	ip, err := netip.ParseAddr(at(m, "source", "ip"))
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("")
}

// ecsKind is event.category and event.type of an action.
func ecsKind(m map[string]any) (category, kind []string) {
	action := at(m, "action")
	verb := action[strings.LastIndexByte(action, '.')+1:]
	kind = map[string][]string{"create": {"creation"}, "update": {"change"}, "delete": {"deletion"}}[verb]
	switch head, _, _ := strings.Cut(action, "."); head {
	case "auth":
		category = []string{"authentication"}
		switch action {
		case Login, LoginFailed, MFAFailed, BreakGlass:
			kind = []string{"start"}
		case Logout, SessionRevoke, SSOLogout:
			kind = []string{"end"}
		}
	case "user", "role", "token":
		category = []string{"iam"}
		kind = append(kind, "admin")
	case "quarantine", "queue", "sandbox":
		category = []string{"email"}
	case "api", "web":
		category, kind = []string{"web"}, []string{"access"}
	default:
		category = []string{"configuration"}
	}
	if action == ViewBody || action == ViewPart || action == RawDownload || action == AuditExport {
		kind = []string{"access"}
	}
	if len(kind) == 0 {
		kind = []string{"info"}
	}
	return category, slices.Compact(kind)
}

// cefLines writes the Common Event Format, one event a line. It has few fields,
// so it loses most of what a change was: the other formats keep it.
func cefLines(w io.Writer) writer {
	return writer{write: func(r Row, m map[string]any) error {
		_, err := io.WriteString(w, cef(r, m))
		return err
	}, close: func(Event, Summary) error { return nil }}
}

var (
	cefHeader = strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\r", " ", "\n", " ")
	cefValue  = strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\r", `\r`, "\n", `\n`)
)

// printed takes the place of what a reader of lines could take for the end of one, or a
// terminal for a command.
func printed(r rune) rune {
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
		return ' '
	}
	return r
}

func cef(r Row, m map[string]any) string {
	severity := map[string]int{"info": 1, "notice": 3, "warning": 6, "critical": 10}[at(m, "severity")]
	action := at(m, "action")
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|Mailward|Mailward|%s|%s|%s|%d|", cefHeader.Replace(at(m, "application", "version")), cefHeader.Replace(action), cefHeader.Replace(action), severity)
	first := true
	add := func(key, value string) {
		if value == "" {
			return
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(key + "=" + strings.Map(printed, cefValue.Replace(value)))
	}
	labelled := func(n int, label, value string) {
		if value != "" {
			add("cs"+strconv.Itoa(n)+"Label", label)
			add("cs"+strconv.Itoa(n), value)
		}
	}
	add("rt", strconv.FormatInt(millis(at(m, "time"), r.RecordedAt), 10))
	add("externalId", r.ID.String())
	if r.Seq != nil {
		add("cn1Label", "seq")
		add("cn1", strconv.FormatInt(*r.Seq, 10))
	}
	add("act", action)
	add("outcome", at(m, "outcome", "result"))
	add("suid", at(m, "actor", "id"))
	add("suser", cmp.Or(at(m, "actor", "email"), at(m, "actor", "display"), at(m, "actor", "type")))
	// src is for IPv4 alone; the other kind has a field of its own.
	if ip := sourceOf(m); ip.Is6() {
		add("c6a2Label", "Source IPv6 Address")
		add("c6a2", ip.String())
	} else if ip.IsValid() {
		add("src", ip.String())
	}
	add("sourceServiceName", at(m, "application", "name"))
	add("requestMethod", at(m, "request", "method"))
	add("request", at(m, "request", "path"))
	add("reason", at(m, "reason", "text"))
	add("duser", targetList(m))
	add("fileHash", at(m, "leaf_hash"))
	labelled(1, "workspace", at(m, "workspace_id"))
	labelled(2, "provider", at(m, "auth", "provider"))
	labelled(3, "session", at(m, "auth", "session_id"))
	labelled(4, "change", at(m, "change", "diff"))
	labelled(5, "approval", at(m, "approval"))
	labelled(6, "correlation", cmp.Or(at(m, "correlation", "item_id"), at(m, "correlation", "mail_id")))
	b.WriteByte('\n')
	return b.String()
}
