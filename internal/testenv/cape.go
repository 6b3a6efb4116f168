package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cape is a double of the CAPE sandbox's web API, version 2. It behaves as the
// real one is known to, also where that is odd: most failures have status 200,
// "error" comes in three forms, one file may become several tasks, completed
// comes before the report. No real CAPE runs in tests.
type Cape struct {
	URL string
	srv *httptest.Server

	mu       sync.Mutex // guards all below
	tasks    []*capeTask
	token    string
	fault    CapeFault
	held     bool // tasks stay where they are
	perFile  int
	status   string // what every task is stuck in; empty: it goes on
	calls    map[string]int
	verdicts map[string]CapeResult // by hash; "" is for all others
}

// CapeResult is what an analysis comes to.
type CapeResult struct {
	Score     float64
	Status    string // Malicious, ...; empty: null, as for what is no program
	Family    string
	Idle      bool // nothing ran
	Padding   int  // bytes of behaviour in front of the verdict
	NoScore   bool
	Signature string
	Endless   bool // the analysis does not end
}

type capeTask struct {
	id     int
	sha    string
	polls  int
	custom string
}

// CapeFault is a way in which CAPE misbehaves.
type CapeFault int

// The faults of CAPE.
const (
	CapeFine        CapeFault = iota
	CapeDown                  // breaks off every connection
	Cape500                   // answers with status 500 and a page
	CapePage                  // answers with status 200 and a page
	CapeThrottled             // 429
	CapeDisabled              // 200: the API is switched off
	CapeStoresFails           // stores the file, then breaks off
	CapeDuplicate             // says that it knows every file
	CapeTooBig                // says that every file is too big
	CapeNoReport              // calls tasks reported and has no report yet
	CapeCutReport             // breaks off in the middle of the report
	CapeNonsense              // answers with what is no JSON
	CapeRedirect              // sends everybody elsewhere
	CapeForbidden             // 403
	CapeHangs                 // takes the question and never answers
)

// NewCape starts a double that lives as long as the test. It calls every file clean.
func NewCape(t testing.TB) *Cape {
	c := &Cape{perFile: 1, calls: map[string]int{}, verdicts: map[string]CapeResult{"": {Score: 0.2}}}
	c.srv = httptest.NewServer(c)
	c.URL = c.srv.URL
	t.Cleanup(c.srv.Close)
	return c
}

func (c *Cape) set(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

// Fail makes it misbehave from now on.
func (c *Cape) Fail(f CapeFault) { c.set(func() { c.fault = f }) }

// Token makes it want this token.
func (c *Cape) Token(t string) { c.set(func() { c.token = t }) }

// Hold keeps tasks from getting anywhere, until it is called with false.
func (c *Cape) Hold(h bool) { c.set(func() { c.held = h }) }

// Stick makes this the state of every task; "" is normal again.
func (c *Cape) Stick(status string) { c.set(func() { c.status = status }) }

// PerFile makes every file so many tasks.
func (c *Cape) PerFile(n int) { c.set(func() { c.perFile = n }) }

// Result is what the files with this content come to; nil content: all others.
func (c *Cape) Result(content []byte, r CapeResult) {
	key := ""
	if content != nil {
		sum := sha256.Sum256(content)
		key = hex.EncodeToString(sum[:])
	}
	c.set(func() { c.verdicts[key] = r })
}

// Tasks are the hashes of the files that it has got, in order.
func (c *Cape) Tasks() (list []string) {
	c.set(func() {
		for _, t := range c.tasks {
			list = append(list, t.sha)
		}
	})
	return list
}

// Calls is how often an endpoint was asked: status, create, state, search, report.
func (c *Cape) Calls(name string) (n int) { c.set(func() { n = c.calls[name] }); return n }

// ServeHTTP is the API.
func (c *Cape) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == CapeHangs {
		c.mu.Unlock()
		<-r.Context().Done()
		c.mu.Lock()
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/apiv2/")
	if !ok || !strings.HasSuffix(path, "/") {
		http.Error(w, "<h1>Not Found</h1>", http.StatusNotFound) // Django wants the slash.
		return
	}
	if c.token != "" && r.Header.Get("Authorization") != "Token "+c.token {
		w.Header().Set("WWW-Authenticate", "Token")
		reply(w, http.StatusUnauthorized, `{"detail":"Invalid token."}`)
		return
	}
	if c.misbehave(w) {
		return
	}
	args := strings.Split(strings.TrimSuffix(path, "/"), "/")
	switch {
	case path == "cuckoo/status/":
		c.calls["status"]++
		reply(w, 200, `{"error":[],"data":{"version":"2.5","hostname":"cape","machines":{"total":4,"available":2},"tasks":{"total":%d,"pending":0,"running":0}}}`, len(c.tasks))
	case path == "tasks/create/file/" && r.Method == http.MethodPost:
		c.calls["create"]++
		c.create(w, r)
	case len(args) == 3 && args[1] == "status":
		c.calls["state"]++
		c.state(w, args[2])
	case len(args) == 3 && args[1] == "view":
		c.view(w, args[2])
	case len(args) == 4 && args[1] == "search" && args[2] == "sha256":
		c.calls["search"]++
		c.search(w, args[3])
	case len(args) == 5 && args[2] == "report" && args[4] == "json":
		c.calls["report"]++
		c.report(w, args[3])
	default:
		http.Error(w, "<h1>Not Found</h1>", http.StatusNotFound)
	}
}

func reply(w http.ResponseWriter, status int, format string, a ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, format, a...)
}

func sorry(w http.ResponseWriter, text string) {
	reply(w, 200, `{"error":true,"error_value":%q}`, text)
}

// misbehave is for faults that every endpoint has.
func (c *Cape) misbehave(w http.ResponseWriter) bool {
	page := func(status int) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		io.WriteString(w, "<html><body>You do not have permission.</body></html>")
	}
	switch c.fault {
	case CapeDown:
		panic(http.ErrAbortHandler)
	case Cape500:
		page(500)
	case CapePage:
		page(200)
	case CapeThrottled:
		w.Header().Set("Retry-After", "7")
		reply(w, 429, `{"detail":"Request was throttled. Expected available in 7 seconds."}`)
	case CapeDisabled:
		sorry(w, "File Create API is Disabled")
	case CapeNonsense:
		reply(w, 200, "\x00\xff{")
	case CapeForbidden:
		reply(w, http.StatusForbidden, `{"detail":"You do not have permission to perform this action."}`)
	case CapeRedirect:
		w.Header().Set("Location", "http://192.0.2.1/elsewhere/")
		w.WriteHeader(http.StatusFound)
	default:
		return false
	}
	return true
}

func (c *Cape) create(w http.ResponseWriter, r *http.Request) {
	f, head, err := r.FormFile("file")
	if err != nil {
		sorry(w, "No file was submitted")
		return
	}
	data, _ := io.ReadAll(f)
	const failed = `{"error":true,"error_value":"Error adding task to database","errors":[{%q:%s}]}`
	switch {
	case len(data) == 0:
		reply(w, 200, failed, head.Filename, `"You uploaded an empty file."`)
		return
	case c.fault == CapeDuplicate:
		reply(w, 200, failed, head.Filename, `"Duplicated file, disable unique option on submit or in conf/web.conf to force submission"`)
		return
	case c.fault == CapeTooBig:
		reply(w, 200, failed, head.Filename, `{"error":"Uploaded file exceeds the maximum allowed size in conf/web.conf."}`)
		return
	}
	sum := sha256.Sum256(data)
	var ids []string
	for range c.perFile {
		t := &capeTask{id: len(c.tasks) + 1, sha: hex.EncodeToString(sum[:]), custom: r.FormValue("custom")}
		c.tasks = append(c.tasks, t)
		ids = append(ids, strconv.Itoa(t.id))
	}
	if c.fault == CapeStoresFails {
		panic(http.ErrAbortHandler)
	}
	reply(w, 200, `{"error":[],"data":{"task_ids":[%s],"message":"Task ID %s has been submitted"},"errors":[],"url":["http://example.tld/submit/status/%s/"]}`,
		strings.Join(ids, ","), ids[0], ids[0])
}

func (c *Cape) task(id string) *capeTask {
	n, _ := strconv.Atoi(id)
	if n < 1 || n > len(c.tasks) {
		return nil
	}
	return c.tasks[n-1]
}

// stateOf is where a task is: it gets on with every look at it.
func (c *Cape) stateOf(t *capeTask) string {
	if c.status != "" {
		return c.status
	}
	if c.resultOf(t).Endless {
		return "running"
	}
	steps := []string{"pending", "completed", "reported"}
	return steps[min(t.polls, len(steps)-1)]
}

func (c *Cape) resultOf(t *capeTask) CapeResult {
	if r, ok := c.verdicts[t.sha]; ok {
		return r
	}
	return c.verdicts[""]
}

func (c *Cape) state(w http.ResponseWriter, id string) {
	t := c.task(id)
	if t == nil {
		sorry(w, "Task does not exist")
		return
	}
	s := c.stateOf(t)
	if !c.held {
		t.polls++
	}
	reply(w, 200, `{"error":false,"data":%q}`, s)
}

func (c *Cape) view(w http.ResponseWriter, id string) {
	t := c.task(id)
	if t == nil {
		sorry(w, "Task does not exist")
		return
	}
	custom := t.custom
	if c.status == "recovered" {
		c.status = ""
		custom = fmt.Sprintf("Recovery_%d", len(c.tasks))
	}
	reply(w, 200, `{"error":false,"data":{"id":%d,"status":%q,"custom":%q,"errors":[],"sample":{},"guest":{}}}`, t.id, c.stateOf(t), custom)
}

func (c *Cape) search(w http.ResponseWriter, sha string) {
	var found []string
	for _, t := range slices.Backward(c.tasks) {
		if t.sha == sha {
			found = append(found, fmt.Sprintf(`{"id":%d,"status":%q,"sample":{"sha256":%q}}`, t.id, c.stateOf(t), sha))
		}
	}
	if len(found) == 0 {
		reply(w, 200, `{"data":[],"error":false}`)
		return
	}
	reply(w, 200, `{"error":[],"data":[%s]}`, strings.Join(found, ","))
}

func (c *Cape) report(w http.ResponseWriter, id string) {
	t := c.task(id)
	switch {
	case t == nil:
		sorry(w, "Task does not exist")
		return
	case strings.HasPrefix(c.status, "failed_"):
		sorry(w, "Task failed")
		return
	case c.stateOf(t) != "reported":
		sorry(w, "Task is still being analyzed")
		return
	case c.fault == CapeNoReport:
		sorry(w, "No reports created for task "+id)
		return
	}
	r := c.resultOf(t)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", "attachment; filename="+id+"_report.json")
	io.WriteString(w, `{"statistics": {"processing": [{"name": "CAPE", "time": 0.5}]}, "info": {"version": "2.5", "id": `+id+`, "category": "file", "timeout": false, "machine": {"name": "win10"}}, "behavior": {"processes": [`)
	if !r.Idle {
		io.WriteString(w, `{"process_id": 1204, "process_name": "wscript.exe", "calls": ["`)
		for n := 0; n < r.Padding; n += 1 << 16 {
			io.WriteString(w, strings.Repeat(`\u0041\"]}`, 1<<16/10))
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
		}
		io.WriteString(w, `"]}`)
	}
	io.WriteString(w, `]}`)
	if c.fault == CapeCutReport {
		w.(http.Flusher).Flush()
		time.Sleep(10 * time.Millisecond)
		panic(http.ErrAbortHandler)
	}
	writeVerdict(w, r)
}

func writeVerdict(w io.Writer, r CapeResult) {
	rest := map[string]any{"malstatus": nil, "signatures": []any{}, "network": map[string]any{"hosts": []any{}}}
	if !r.NoScore {
		rest["malscore"] = r.Score
	}
	if r.Status != "" {
		rest["malstatus"] = r.Status
	}
	if r.Signature != "" {
		rest["signatures"] = []any{map[string]any{"name": "antivm_generic_disk", "description": "Looks at the disk", "severity": 1, "data": []any{}},
			map[string]any{"name": r.Signature, "description": "What it did", "severity": 3, "confidence": 80, "data": []any{map[string]any{"pid": 1204}}}}
	}
	if r.Family != "" {
		rest["detections"] = []any{map[string]any{"family": r.Family, "details": []any{map[string]string{"Yara": strings.Repeat("0", 64)}}}}
	}
	b, err := json.Marshal(rest)
	if err != nil {
		return
	}
	fmt.Fprintf(w, ", %s", b[1:])
}
