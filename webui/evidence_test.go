package webui

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/audit"
	"mailward/evidence/receipt"
	"mailward/identity"
	"mailward/internal/pg"
)

const exportBodyJSON = `{"case":"INC-1","case_title":"Wave","purpose":"report","reason":"needed","language":"de"}`

func (s *realSite) bytes(token, path string) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.URL+apiPrefix+path, nil)
	must(s.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp.StatusCode, b
}

// TestEvidence_OverTheAPI: one person asks, another agrees, the worker makes it, and
// what is downloaded stands by itself.
func TestEvidence_OverTheAPI(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx, it := context.Background(), s.hold("bob@ours.example")
	admin, viewer := s.token(identity.Admin), s.token(identity.Viewer)
	path := "/quarantine/" + it.ID.String() + "/export"
	if status, _, _ := s.call(viewer, "POST", path, exportBodyJSON); status != http.StatusForbidden {
		t.Errorf("a viewer asks for an export: %d", status)
	}
	if status, _, text := s.call(admin, "POST", path, `{"case":"NEW","reason":"needed"}`); status != http.StatusUnprocessableEntity || !strings.Contains(text, "title and a purpose") {
		t.Errorf("a new case without a title: %d %s", status, text)
	}
	status, e, text := s.call(admin, "POST", path, exportBodyJSON)
	if status != http.StatusAccepted || e["state"] != "requested" {
		t.Fatalf("%d %s", status, text)
	}
	id := e["id"].(string)
	if status, _, _ := s.call(admin, "GET", "/exports/"+id+"/files/bundle.zip", ""); status != http.StatusConflict {
		t.Errorf("files of an export that is not done: %d", status)
	}
	request := e["request_id"].(string)
	if status, _, _ := s.call(admin, "POST", "/approvals/"+request+"/approve", `{"reason":"mine"}`); status != http.StatusConflict {
		t.Errorf("the one who asked agrees: %d", status)
	}
	other, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "otto@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
	must(t, err)
	otto, _, err := s.ids.CreateToken(ctx, pgOperator(), identity.NewToken{Name: "o", Role: identity.Approver, OwnerID: other.ID})
	must(t, err)
	if status, list, text := s.call(otto, "GET", "/approvals?kind=export", ""); status != 200 || len(list["items"].([]any)) != 1 {
		t.Errorf("the inbox: %d %s", status, text)
	}
	if status, _, text := s.call(otto, "POST", "/approvals/"+request+"/approve", `{"reason":"agreed"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	_, err = s.exports.Next(ctx)
	must(t, err)
	if status, e, text = s.call(viewer, "GET", "/exports/"+id, ""); status != 200 || e["state"] != "done" || len(e["custody"].([]any)) != 6 {
		t.Fatalf("%d %s", status, text)
	}
	if status, _ := s.bytes(viewer, "/exports/"+id+"/files/bundle.zip"); status != http.StatusForbidden {
		t.Errorf("a viewer downloads: %d", status)
	}
	if status, b := s.bytes(admin, "/exports/"+id+"/files/"+url.PathEscape(receipt.FileEvent)); status != 200 || !bytes.Contains(b, []byte(audit.EvidenceStored)) {
		t.Errorf("a file in a folder: %d %s", status, b)
	}
	status, b := s.bytes(admin, "/exports/"+id+"/files/bundle.zip")
	if status != 200 {
		t.Fatalf("%d %s", status, b)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	if rep, err := receipt.Verify(z, receipt.Options{}); err != nil || rep.Problem != "" || !strings.Contains(rep.Receipt.Custody[4].ApprovedBy[0], "otto@ours.example") {
		t.Errorf("%+v, %v", rep, err)
	}
	if status, _ := s.bytes(admin, "/exports/"+id+"/files/nothing"); status != http.StatusNotFound {
		t.Errorf("a file that is not there: %d", status)
	}
	if status, list, _ := s.call(viewer, "GET", "/exports?q=inc-1&state=done", ""); status != 200 || len(list["items"].([]any)) != 1 {
		t.Errorf("the list: %d %v", status, list)
	}
}

// TestEvidence_Denied: who says no gives a reason, and nothing is read.
func TestEvidence_Denied(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.Required)
	ctx, it := context.Background(), s.hold("bob@ours.example")
	_, e, _ := s.call(s.token(identity.Admin), "POST", "/quarantine/"+it.ID.String()+"/export", exportBodyJSON)
	request, err := uuid.Parse(e["request_id"].(string))
	must(t, err)
	other, err := s.ids.CreateUser(ctx, pgOperator(), identity.NewUser{Email: "otto@ours.example", Password: sitePassword, Roles: []identity.Role{identity.Approver}})
	must(t, err)
	if err := s.exports.Decide(ctx, pg.Actor{Type: pg.ActorUser, UserID: other.ID}, nil, request, false, ""); err != approval.ErrReasonRequired {
		t.Errorf("denied without a reason: %v", err)
	}
	must(t, s.exports.Decide(ctx, pg.Actor{Type: pg.ActorUser, UserID: other.ID}, nil, request, false, "not needed"))
	if more, err := s.exports.Next(ctx); err != nil || more || len(s.events(audit.EvidenceRead)) != 0 {
		t.Errorf("a denied export is made: %v", err)
	}
}
