package testenv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ObjectStore is an object storage with Object Lock.
type ObjectStore struct {
	Endpoint          string // host:port, plain HTTP
	AccessKey, Secret string
	Real              bool // versitygw, and not the double
}

// S3 gives an object storage with Object Lock: versitygw where it is installed
// (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0), else a double that
// holds to what that server and S3 do with versions, locks and legal holds.
func S3(t testing.TB) ObjectStore {
	t.Helper()
	bin, err := exec.LookPath("versitygw")
	if err != nil {
		srv := httptest.NewServer(&s3Double{})
		t.Cleanup(srv.Close)
		return ObjectStore{Endpoint: strings.TrimPrefix(srv.URL, "http://"), AccessKey: "key", Secret: "secret-of-the-double"}
	}
	dir := t.TempDir()
	for _, d := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(bin, "--port", addr, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=root", "ROOT_SECRET_KEY=secret-of-the-test")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			c.Close()
			return ObjectStore{Endpoint: addr, AccessKey: "root", Secret: "secret-of-the-test", Real: true}
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// s3Double is the double: buckets, versions, and locks that hold.
type s3Double struct {
	mu       sync.Mutex
	buckets  map[string]bool // whether it has Object Lock
	versions []s3Version
}

type s3Version struct {
	path, id, etag string
	body           []byte
	mode           string
	until          time.Time
	hold           bool
	at             time.Time
}

func (d *s3Double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	locks, known := d.buckets[bucket]
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=key/"):
		refuse(w, 403, "AccessDenied")
	case r.URL.Query().Has("location"):
		io.WriteString(w, `<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	case r.Method == http.MethodPut && key == "":
		if d.buckets == nil {
			d.buckets = map[string]bool{}
		}
		d.buckets[bucket] = r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled") == "true"
	case !known:
		refuse(w, 404, "NoSuchBucket")
	case r.Method == http.MethodPut:
		d.put(w, r, locks)
	case r.Method == http.MethodGet && key == "" && r.URL.Query().Get("list-type") == "2":
		d.list(w, bucket, r.URL.Query().Get("prefix"))
	case r.Method == http.MethodDelete && !locks && !r.URL.Query().Has("versionId"):
		d.versions = slices.DeleteFunc(d.versions, func(v s3Version) bool { return v.path == r.URL.Path })
		w.WriteHeader(204)
	default:
		d.one(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, code)
}

// list gives what is under a prefix, all in one answer.
func (d *s3Double) list(w http.ResponseWriter, bucket, prefix string) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><IsTruncated>false</IsTruncated>`, bucket)
	for _, v := range d.versions {
		if key, ok := strings.CutPrefix(v.path, "/"+bucket+"/"); ok && strings.HasPrefix(key, prefix) {
			fmt.Fprintf(w, `<Contents><Key>%s</Key><LastModified>%s</LastModified><Size>%d</Size></Contents>`, key, v.at.UTC().Format(time.RFC3339), len(v.body))
		}
	}
	io.WriteString(w, `</ListBucketResult>`)
}

func (d *s3Double) put(w http.ResponseWriter, r *http.Request, locks bool) {
	body, err := payload(r)
	if err != nil {
		refuse(w, 400, "IncompleteBody")
		return
	}
	sum := md5.Sum(body)
	if want := r.Header.Get("Content-Md5"); want != "" && want != base64.StdEncoding.EncodeToString(sum[:]) {
		refuse(w, 400, "BadDigest")
		return
	}
	v := s3Version{path: r.URL.Path, id: fmt.Sprintf("v%d", len(d.versions)+1), etag: hex.EncodeToString(sum[:]), body: body, at: time.Now(),
		mode: r.Header.Get("X-Amz-Object-Lock-Mode"), hold: r.Header.Get("X-Amz-Object-Lock-Legal-Hold") == "ON"}
	if v.mode != "" || v.hold {
		if !locks { // as S3 does
			refuse(w, 400, "InvalidRequest")
			return
		}
		v.until, err = time.Parse(time.RFC3339, r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || v.until.Before(time.Now()) {
			refuse(w, 400, "InvalidArgument")
			return
		}
	}
	d.versions = append(d.versions, v)
	w.Header().Set("ETag", `"`+v.etag+`"`)
	w.Header().Set("x-amz-version-id", v.id)
}

// one is a call about a version that is there; without an id about the newest.
func (d *s3Double) one(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("versionId")
	for i := len(d.versions) - 1; i >= 0; i-- {
		v := d.versions[i]
		if v.path != r.URL.Path || id != "" && v.id != id {
			continue
		}
		if r.Method == http.MethodDelete {
			if id != "" && (v.hold || v.mode == "COMPLIANCE" && time.Now().Before(v.until)) {
				refuse(w, 403, "AccessDenied") // "because object protected by object lock"
				return
			}
			if id != "" {
				d.versions = append(d.versions[:i], d.versions[i+1:]...)
			}
			w.WriteHeader(204)
			return
		}
		h := w.Header()
		h.Set("ETag", `"`+v.etag+`"`)
		h.Set("x-amz-version-id", v.id)
		h.Set("Last-Modified", v.at.UTC().Format(http.TimeFormat))
		h.Set("Content-Length", strconv.Itoa(len(v.body)))
		if v.mode != "" {
			h.Set("X-Amz-Object-Lock-Mode", v.mode)
			h.Set("X-Amz-Object-Lock-Retain-Until-Date", v.until.Format(time.RFC3339))
		}
		if v.hold {
			h.Set("X-Amz-Object-Lock-Legal-Hold", "ON")
		}
		if r.Method == http.MethodGet {
			w.Write(v.body)
		}
		return
	}
	refuse(w, 404, "NoSuchKey")
}

// payload takes the signatures out of a body that is signed piece by piece.
func payload(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	var out bytes.Buffer
	br := bufio.NewReader(r.Body)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out.Bytes(), nil
		}
		if _, err := io.CopyN(&out, br, n); err != nil {
			return nil, err
		}
		if _, err := br.Discard(2); err != nil {
			return nil, err
		}
	}
}
