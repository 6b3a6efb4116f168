package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// ocsfVersion is the schema that the objects follow (https://schema.ocsf.io).
const ocsfVersion = "1.6.0"

// ocsfClass is a class of events there, with the activities that we use.
type ocsfClass struct {
	category, uid int
	name          string
	activities    map[int]string
}

var (
	accountChange  = ocsfClass{3, 3001, "Account Change", map[int]string{1: "Create", 3: "Password Change", 4: "Password Reset", 6: "Delete", 9: "Lock"}}
	authentication = ocsfClass{3, 3002, "Authentication", map[int]string{1: "Logon", 2: "Logoff"}}
	entityChange   = ocsfClass{3, 3004, "Entity Management", map[int]string{1: "Create", 2: "Read", 3: "Update", 4: "Delete"}}
	userAccess     = ocsfClass{3, 3005, "User Access Management", map[int]string{1: "Assign Privileges", 2: "Revoke Privileges"}}
	logActivity    = ocsfClass{1, 1008, "Event Log Activity", map[int]string{2: "Delete", 3: "Export", 6: "Start", 7: "Stop"}}
	apiActivity    = ocsfClass{6, 6003, "API Activity", map[int]string{1: "Create", 2: "Read", 3: "Update", 4: "Delete"}}

	ocsfCategories = map[int]string{1: "System Activity", 3: "Identity & Access Management", 6: "Application Activity"}
	ocsfSeverities = map[string]int{"info": 1, "notice": 1, "warning": 3, "critical": 5}
	ocsfSeverity   = map[int]string{1: "Informational", 3: "Medium", 5: "Critical"}
	ocsfStatuses   = map[string]int{"success": 1, "failure": 2, "refused": 2}
	ocsfStatus     = map[int]string{0: "Unknown", 1: "Success", 2: "Failure"}
)

// otherActivity is what OCSF has no number for; its name is our action.
const otherActivity = 99

// ocsfKind is the class and the activity of an action.
func ocsfKind(m map[string]any) (ocsfClass, int) {
	action := at(m, "action")
	verb := action[strings.LastIndexByte(action, '.')+1:]
	change := map[string]int{"create": 1, "update": 3, "delete": 4}[verb]
	switch {
	case action == Login:
		return authentication, 1
	case action == LoginFailed, action == MFAFailed, action == BreakGlass:
		return authentication, 1
	case action == Logout, action == SessionRevoke, action == SSOLogout:
		return authentication, 2
	case action == PasswordChange:
		return accountChange, 3
	case action == PasswordReset:
		return accountChange, 4
	case action == Lockout:
		return accountChange, 9
	case strings.HasPrefix(action, "auth."):
		return authentication, otherActivity
	case strings.HasPrefix(action, "user."):
		return accountChange, map[int]int{1: 1, 3: otherActivity, 4: 6}[change]
	case strings.HasPrefix(action, "role."):
		return userAccess, map[int]int{1: 1, 3: 1, 4: 2}[change]
	case action == AuditExport:
		return logActivity, 3
	case strings.HasPrefix(action, "audit.partition."):
		return logActivity, 2
	case strings.HasPrefix(action, "audit."), strings.HasPrefix(action, "guard."), strings.HasPrefix(action, "logging."):
		return logActivity, otherActivity
	case action == APICall, action == PageView:
		return apiActivity, map[string]int{"GET": 2, "HEAD": 2, "POST": 1, "PUT": 3, "PATCH": 3, "DELETE": 4}[at(m, "request", "method")]
	case slices.Contains([]string{ViewBody, ViewPart, RawDownload}, action):
		return entityChange, 2
	case change != 0:
		return entityChange, change
	}
	return entityChange, otherActivity
}

// ocsf writes an event as OCSF does. What has no place there is in unmapped, and
// the bytes of the record in raw_data, so that nothing is lost.
func ocsf(r Row, m map[string]any) map[string]any {
	class, activity := ocsfKind(m)
	name, known := class.activities[activity]
	if !known {
		activity, name = otherActivity, at(m, "action")
	}
	severity, status := ocsfSeverities[at(m, "severity")], ocsfStatuses[at(m, "outcome", "result")]
	if severity == 0 {
		severity = 1
	}
	raw := sha256.Sum256(r.Bytes)
	actor := ocsfActor(m)
	out := map[string]any{
		"category_uid": class.category, "category_name": ocsfCategories[class.category], "class_uid": class.uid, "class_name": class.name,
		"activity_id": activity, "activity_name": name, "type_uid": class.uid*100 + activity, "type_name": class.name + ": " + name,
		"time": millis(at(m, "time"), r.RecordedAt), "severity_id": severity, "severity": ocsfSeverity[severity],
		"status_id": status, "status": ocsfStatus[status], "status_code": deep(m, "outcome", "code"), "status_detail": deep(m, "outcome", "detail"),
		"message": at(m, "action"), "comment": deep(m, "reason", "text"), "actor": actor,
		"metadata": bare(map[string]any{"version": ocsfVersion, "uid": r.ID.String(), "sequence": m["seq"], "tenant_uid": m["workspace_id"], "event_code": at(m, "action"),
			"correlation_uid": firstOf(deep(m, "correlation", "item_id"), deep(m, "correlation", "mail_id"), deep(m, "request", "id")), "logged_time": r.RecordedAt.UnixMilli(),
			"product": bare(map[string]any{"name": "Mailward", "vendor_name": "Mailward", "version": deep(m, "application", "version")})}),
		"src_endpoint": ocsfSource(m), "http_request": ocsfRequest(m), "raw_data": string(r.Bytes),
		"raw_data_hash": map[string]any{"algorithm_id": 3, "algorithm": "SHA-256", "value": hex.EncodeToString(raw[:])},
		"unmapped":      bare(map[string]any{"phase": m["phase"], "targets": m["targets"], "change": m["change"], "approval": m["approval"], "class": m["class"], "db_role": m["db_role"], "leaf_hash": m["leaf_hash"]}),
	}
	if status := whole(deep(m, "request", "status")); status > 0 {
		out["http_response"] = map[string]any{"code": status}
	}
	ocsfRequired(class, m, out)
	return bare(out)
}

// targetOf is what an event says of the first thing of a type that it is about.
func targetOf(m map[string]any, kind, key string) any {
	list, _ := m["targets"].([]any)
	for _, x := range list {
		if t, _ := x.(map[string]any); t["type"] == kind {
			return firstOf(t[key])
		}
	}
	return nil
}

// ocsfRequired adds what a class asks for beside the base event.
func ocsfRequired(class ocsfClass, m, out map[string]any) {
	object := map[string]any{}
	if ts, _ := m["targets"].([]any); len(ts) > 0 {
		if t, ok := ts[0].(map[string]any); ok {
			object = bare(map[string]any{"uid": t["id"], "type": t["type"], "name": firstOf(t["value"], t["label"])})
		}
	}
	user, _ := out["actor"].(map[string]any)["user"].(map[string]any)
	switch class.uid {
	case authentication.uid:
		out["user"], out["service"] = user, map[string]any{"name": "Mailward"}
		// Whose session it is, or whose login, also where somebody else or a program acts.
		if uid := targetOf(m, "user_account", "id"); uid != nil && uid != user["uid"] {
			out["user"] = map[string]any{"uid": uid}
		} else if claimed := targetOf(m, "account", "value"); claimed != nil {
			out["user"] = map[string]any{"name": claimed}
		}
		out["is_mfa"] = deep(m, "auth", "mfa")
	case accountChange.uid, userAccess.uid:
		out["user"] = user
		if uid := firstOf(deep(m, "change", "after", "user_id"), deep(m, "change", "before", "user_id"), object["uid"]); uid != nil {
			out["user"] = map[string]any{"uid": uid}
		}
		if class.uid == userAccess.uid { // which role it is about, is asked for
			out["privileges"] = []any{firstOf(deep(m, "change", "after", "role"), deep(m, "change", "before", "role"), targetOf(m, "user_account", "label"), at(m, "action"))}
		}
	case entityChange.uid:
		if len(object) == 0 {
			object["name"] = at(m, "category")
		}
		if data := deep(m, "change", "before"); data != nil {
			object["data"] = data
		}
		out["entity"] = object
		if data := deep(m, "change", "after"); data != nil {
			out["entity_result"] = bare(map[string]any{"uid": object["uid"], "type": object["type"], "name": object["name"], "data": data})
		}
	case apiActivity.uid:
		out["api"] = bare(map[string]any{"operation": strings.TrimSpace(at(m, "request", "method") + " " + at(m, "request", "path")), "request": bare(map[string]any{"uid": deep(m, "request", "id")})})
	case logActivity.uid:
		out["log_name"] = "audit"
	}
}

// ocsfUserTypes are the words of OCSF for those of our types of actor that it knows; of
// others it takes our word under the number for what it has none for.
var ocsfUserTypes = map[string]struct {
	id   int
	name string
}{"user": {1, "User"}, "operator": {2, "Admin"}, "system": {3, "System"}, "service": {4, "Service"}, "unknown": {0, "Unknown"}, "": {0, "Unknown"}}

// ocsfUser is who acts. OCSF wants a name or an id of each user: an address is neither.
func ocsfUser(m map[string]any) map[string]any {
	kind, known := ocsfUserTypes[at(m, "actor", "type")]
	if !known {
		kind.id, kind.name = otherActivity, at(m, "actor", "type")
	}
	user := bare(map[string]any{"uid": deep(m, "actor", "id"), "email_addr": deep(m, "actor", "email"),
		"name": firstOf(deep(m, "actor", "display"), deep(m, "actor", "email")), "type_id": kind.id, "type": kind.name})
	if user["uid"] == nil && user["name"] == nil {
		user["name"] = strings.ToLower(kind.name)
	}
	return user
}

func ocsfActor(m map[string]any) map[string]any {
	return bare(map[string]any{
		"user":    ocsfUser(m),
		"session": bare(map[string]any{"uid": deep(m, "auth", "session_id"), "is_mfa": deep(m, "auth", "mfa"), "issuer": deep(m, "auth", "issuer"), "credential_uid": deep(m, "auth", "credential_id")}),
		"idp":     bare(map[string]any{"name": deep(m, "auth", "provider"), "protocol_name": deep(m, "auth", "protocol")}), "app_name": deep(m, "application", "name"),
	})
}

func ocsfSource(m map[string]any) map[string]any {
	if ip := sourceOf(m); ip.IsValid() {
		return map[string]any{"ip": ip.String()}
	}
	return bare(map[string]any{"name": deep(m, "observer", "instance")})
}

func ocsfRequest(m map[string]any) map[string]any {
	req := bare(map[string]any{"uid": deep(m, "request", "id"), "http_method": deep(m, "request", "method")})
	if path := at(m, "request", "path"); path != "" {
		req["url"] = map[string]any{"path": path}
	}
	return req
}

// deep reads a value deep in an event; nil where there is none.
func deep(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		x, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = x[p]
	}
	if v == "" {
		return nil
	}
	return v
}

func whole(v any) int {
	n, _ := v.(float64)
	return int(n)
}

// firstOf is the first value that is there.
func firstOf(values ...any) any {
	for _, v := range values {
		if v != nil && v != "" {
			return v
		}
	}
	return nil
}

// bare drops what says nothing.
func bare(m map[string]any) map[string]any {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case string:
			if v == "" {
				delete(m, k)
			}
		case map[string]any:
			if len(v) == 0 {
				delete(m, k)
			}
		}
	}
	return m
}

// millis is an event's time as OCSF and CEF write it.
func millis(s string, otherwise time.Time) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t = otherwise
	}
	return t.UnixMilli()
}
