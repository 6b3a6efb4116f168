package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v3"
)

// serveDebug opens the debug listener, if one is configured: profiles, metrics
// and the configuration in force, for people on this host.
func (p *program) serveDebug(failed chan<- error) error {
	if p.conf.Debug.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", p.conf.Debug.Listen)
	if err != nil {
		return fmt.Errorf("listen for debugging: %w", err)
	}
	// No write timeout: a profile takes as long as it is asked to.
	srv := &http.Server{Handler: p.debugHandler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("debug listener: %w", err)
		}
	}()
	p.onStop(func(context.Context) { srv.Close(); <-done })
	return nil
}

func (p *program) debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		b, err := yaml.Marshal(p.conf)
		if err != nil {
			http.Error(w, "the configuration cannot be shown", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(b)
	})
	return localOnly(mux)
}

// localOnly refuses requests for a name that is not this host's: a web page may
// have its own name lead to the loopback and read the answers (DNS rebinding).
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "only for this host", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
