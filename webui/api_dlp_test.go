package webui

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/internal/pg"
	"mailward/policy"
)

const dlpText = "Projekt Falke soll bis Ende September abgeschlossen sein, und bis dahin darf niemand davon wissen, der nicht muss."

func TestAPI_DLP(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin, viewer := s.token(identity.Admin), s.token(identity.Viewer)
	status, made, body := s.call(admin, "POST", "/dlp/sets", `{"name":"Falke","rules":{"keywords":["Projekt Falke"],"detectors":[{"detector":"card","high":1}]}}`)
	if status != http.StatusCreated || made["class"] != "dlp" || made["direction"] != "out" || made["enabled"] != true {
		t.Fatalf("%d %s", status, body)
	}
	path := "/dlp/sets/" + made["id"].(string)
	file := base64.StdEncoding.EncodeToString([]byte(dlpText))
	for _, c := range []struct {
		who, method, path, body string
		want                    int
		has                     string
	}{
		{viewer, "GET", "/dlp/sets", "", 200, `"Payment cards"`},
		{viewer, "GET", path, "", 200, `"fingerprints":[]`},
		{viewer, "GET", "/dlp/sets/" + uuid.NewString(), "", 404, ""},
		{viewer, "POST", "/dlp/sets", `{"name":"x","rules":{}}`, 403, ""},
		{viewer, "PUT", path, `{"name":"x","rules":{}}`, 403, ""},
		{viewer, "DELETE", path, "", 403, ""},
		{viewer, "POST", path + "/fingerprints", `{"name":"x","text":"y"}`, 403, ""},
		{viewer, "POST", "/dlp/test", `{"text":"Karte 4111 1111 1111 1111 für Projekt Falke"}`, 200, "4111 **** **** **11"},
		{admin, "POST", "/dlp/sets", `{"name":"falke","rules":{}}`, 409, "already"},
		{admin, "POST", "/dlp/sets", `{"name":"x","rules":{"patterns":["("]}}`, 422, "patterns"},
		{admin, "POST", "/dlp/sets", `{"name":"x","rules":{"detectors":[{"detector":"nothing","high":1}]}}`, 422, "detectors"},
		{admin, "PUT", path, `{"name":"Falke","class":"","score":2.5,"rules":{"keywords":["Falke"]},"version":1}`, 200, `"class":""`},
		{admin, "PUT", path, `{"name":"Falke","rules":{},"version":1}`, 409, "somebody else"},
		{admin, "POST", path + "/fingerprints", `{"name":"x","text":"too short"}`, 422, "words"},
		{admin, "POST", path + "/fingerprints", `{"name":"plan.txt","file":"` + file + `"}`, 201, `"words":18`},
		{viewer, "POST", "/dlp/test", `{"text":"` + dlpText + `"}`, 200, "100 % of the document"},
		{viewer, "GET", path, "", 200, `"plan.txt"`},
		{admin, "DELETE", path + "/fingerprints/" + uuid.NewString(), "", 404, ""},
		{admin, "DELETE", path, "", 204, ""},
		{admin, "DELETE", path, "", 404, ""},
	} {
		status, _, body := s.call(c.who, c.method, c.path, c.body)
		if status != c.want || !strings.Contains(body, c.has) || strings.Contains(body, "dlp: ") || strings.Contains(body, "4111 1111") {
			t.Errorf("%s %s %s: %d %s, want %d with %s", c.method, c.path, c.body, status, body, c.want, c.has)
		}
	}
	if n := len(s.events("dlp.set.update")); n != 2 {
		t.Errorf("%d changes on record, want 2", n)
	}
}

// TestAPI_DLPOfAnotherWorkspace: what is not ours to see is not there.
func TestAPI_DLPOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	ctx, other := context.Background(), uuid.Must(uuid.NewV7())
	_, err := s.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'other')", other)
	must(t, err)
	var foreign string
	must(t, s.db.Pool.QueryRow(ctx, "SELECT id::text FROM dlp_set WHERE workspace_id = $1 LIMIT 1", other).Scan(&foreign))
	admin, _, err := s.ids.CreateToken(ctx, pg.Operator("root"), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: s.admin.ID, Workspace: policy.DefaultWorkspace})
	must(t, err)
	if _, _, body := s.call(admin, "GET", "/dlp/sets", ""); strings.Contains(body, foreign) {
		t.Error("another workspace's set in the list")
	}
	for _, c := range [][2]string{{"GET", ""}, {"PUT", `{"name":"x","rules":{}}`}, {"DELETE", ""}} {
		if status, _, text := s.call(admin, c[0], "/dlp/sets/"+foreign, c[1]); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", c[0], status, text)
		}
	}
}
