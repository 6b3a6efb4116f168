package main

import (
	"strings"
	"testing"
	"time"

	"mailward/gateway/hop"
	"mailward/internal/testenv"
)

// A route of the file is what mail goes by, with its secret looked up.
func TestRoutes_AreUsed(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Login("gate", "hunter2", "PLAIN")
	conf, err := loadConfig(writeFile(t, `
relay:
  default: exchange
  domains: {example.org: exchange, example.net: "127.0.0.1:1, 127.0.0.1:2"}
  routes:
    exchange:
      hosts: [{address: "127.0.0.1:1", priority: 1}, {address: "`+h.Addr+`", priority: 2}]
      tls: none
      auth: {user: gate, password: "env:HOP_PASSWORD", mechanism: PLAIN, allow_clear: true}
      max_connections: 7
      timeouts: {reply: 5s}
`), []string{"HOP_PASSWORD=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	hops, err := conf.hopConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := hops.Routes["exchange"]
	if r.MaxConnections != 7 || r.Timeouts.Reply != 5*time.Second || r.TLS != hop.TLSNone || hops.Direct.MaxConnections != 20 {
		t.Errorf("%+v", r)
	}
	s := hop.New(hops)
	defer s.Close()
	res := s.Send(t.Context(), "exchange", hop.Transfer{To: []hop.Recipient{{Address: "bob@example.org"}}, Body: strings.NewReader("x: y\r\n")})
	if res.Err != nil || len(h.Messages()) != 1 {
		t.Errorf("%+v", res)
	}
}
