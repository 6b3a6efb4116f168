package testenv

import (
	"compress/gzip"
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
)

// MISPKey is what the double of MISP takes.
const MISPKey = "0123456789abcdef0123456789abcdef01234567"

// Feeds is a double of servers of threat intelligence: files under /files/, MISP
// under /misp, a TAXII 2.1 collection under /taxii.
type Feeds struct {
	URL string

	mu         sync.Mutex
	files      map[string]string
	asked      int
	attributes []map[string]any
	queries    []map[string]any
	sighted    []string
	stix       []map[string]any
	trap       string
}

// NewFeeds starts the double on the loopback.
func NewFeeds(t testing.TB) *Feeds {
	f := &Feeds{files: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /files/{name}", f.file)
	mux.HandleFunc("POST /misp/attributes/restSearch", f.search)
	mux.HandleFunc("POST /misp/sightings/add", f.sight)
	mux.HandleFunc("GET /taxii/objects/", f.objects)
	mux.Handle("GET /away", http.RedirectHandler("http://other.example/", http.StatusFound))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		trap := f.trap
		f.mu.Unlock()
		if trap == "" {
			mux.ServeHTTP(w, r)
			return
		}
		fall(trap, w, r)
	}))
	t.Cleanup(s.Close)
	f.URL = s.URL
	return f
}

// Traps are what real servers do in place of an answer; see [Feeds.Trap].
func Traps() []string {
	return []string{"down", "401", "403", "429", "500", "html", "empty", "wrong key with 200", "no result with 200", "cut", "endless", "gzip bomb", "silent"}
}

// Trap has each call answered in one of the wrong ways; "" ends that.
func (f *Feeds) Trap(kind string) { f.mu.Lock(); f.trap = kind; f.mu.Unlock() }

// fall answers as contracts of MISP and abuse.ch say that their servers do on a
// bad day, and as anything on the way may.
func fall(trap string, w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // only then it is noticed that the client has gone
	switch trap {
	case "401", "403", "500":
		code, _ := strconv.Atoi(trap)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, `{"name":"Authentication failed.","message":"Authentication failed.","url":"/"}`)
	case "429":
		w.Header().Set("Retry-After", "7200")
		w.Header().Set("X-Rate-Limit-Remaining", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	case "html":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "\r\n<!DOCTYPE html><title>Log in</title><a href='http://login.example/'>here</a>")
	case "empty":
	case "wrong key with 200":
		io.WriteString(w, `{"query_status": "unknown_auth_key"}`)
	case "no result with 200":
		io.WriteString(w, `{"query_status": "no_results", "data": "Your query did not yield any results"}`)
	case "cut":
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, "http://half.example/a\nhttp://ha")
	case "endless":
		line := []byte(strings.Repeat("http://more.example/aaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 1000))
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	case "gzip bomb":
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		for zeros := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := z.Write(zeros); err != nil {
				return
			}
		}
	case "silent":
		<-r.Context().Done()
	default: // down
		panic(http.ErrAbortHandler)
	}
}

// File sets what a file says.
func (f *Feeds) File(name, text string) { f.mu.Lock(); f.files[name] = text; f.mu.Unlock() }

// Asked is how often a file was sent, and not said to be unchanged.
func (f *Feeds) Asked() int { f.mu.Lock(); defer f.mu.Unlock(); return f.asked }

// Attributes sets what MISP has.
func (f *Feeds) Attributes(list ...map[string]any) { f.mu.Lock(); f.attributes = list; f.mu.Unlock() }

// Queries are what MISP was asked.
func (f *Feeds) Queries() []map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.queries)
}

// Sighted are the values that MISP was told of.
func (f *Feeds) Sighted() []string { f.mu.Lock(); defer f.mu.Unlock(); return slices.Clone(f.sighted) }

// STIX sets the objects of the collection.
func (f *Feeds) STIX(list ...map[string]any) { f.mu.Lock(); f.stix = list; f.mu.Unlock() }

func (f *Feeds) file(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	tag := fmt.Sprintf(`"%d-%x"`, len(text), text[:min(len(text), 8)])
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f.asked++
	io.WriteString(w, text)
}

// misp refuses as MISP does: a browser's call goes to a login page, and a bad key
// is 403. The key has no scheme before it.
func misp(w http.ResponseWriter, r *http.Request, ask any) bool {
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Accept") != "application/json" {
		http.Redirect(w, r, "/users/login", http.StatusFound)
		return false
	}
	if r.Header.Get("Authorization") != MISPKey {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"name":"Authentication failed.","message":"Authentication failed.","url":"/attributes/restSearch"}`)
		return false
	}
	return json.NewDecoder(r.Body).Decode(ask) == nil
}

func (f *Feeds) search(w http.ResponseWriter, r *http.Request) {
	var ask map[string]any
	if !misp(w, r, &ask) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, ask)
	// Not restrictive by itself: what is not for detection, or gone, is left out
	// only where that is asked for.
	out := []map[string]any{}
	for _, a := range f.attributes {
		if ask["to_ids"] == 1.0 && a["to_ids"] != true || ask["deleted"] == 0.0 && a["deleted"] == true {
			continue
		}
		out = append(out, a)
	}
	limit, _ := ask["limit"].(float64)
	page, _ := ask["page"].(float64)
	if limit > 0 {
		from := min(len(out), int(limit)*(int(page)-1))
		out = out[from:min(len(out), from+int(limit))]
	}
	json.NewEncoder(w).Encode(map[string]any{"response": map[string]any{"Attribute": out}})
}

func (f *Feeds) sight(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Values []string }
	if !misp(w, r, &ask) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := 0
	for _, v := range ask.Values {
		for _, a := range f.attributes {
			// Composite attributes are known by either half, in any case.
			halves := append(strings.Split(fmt.Sprint(a["value"]), "|"), fmt.Sprint(a["value"]))
			if slices.ContainsFunc(halves, func(h string) bool { return strings.EqualFold(h, v) }) {
				taken++
				f.sighted = append(f.sighted, v)
				break
			}
		}
	}
	if taken == 0 {
		io.WriteString(w, `{"message":"Could not add the Sighting. Reason: No valid attributes found that would match the sighting criteria."}`) // with 200
		return
	}
	io.WriteString(w, `{"Sighting":{"id":"1"}}`) // the last one only
}

// objects pages by one, so that a client has to follow.
func (f *Feeds) objects(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") != "application/taxii+json;version=2.1" {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/taxii+json;version=2.1")
	at, _ := strconv.Atoi(r.URL.Query().Get("next"))
	if r.URL.Query().Get("added_after") != "" || at >= len(f.stix) {
		io.WriteString(w, "{}")
		return
	}
	w.Header().Set("X-TAXII-Date-Added-Last", fmt.Sprintf("2026-11-26T10:00:%02d.000001Z", at))
	json.NewEncoder(w).Encode(map[string]any{"more": at+1 < len(f.stix), "next": strconv.Itoa(at + 1), "objects": f.stix[at : at+1]})
}
