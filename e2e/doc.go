// Package e2e tests the built binaries as their users meet them: mail goes in
// through a real SMTP socket, is scanned by a real clamd and the real sidecar,
// and comes out at a next hop or stays in quarantine. Nothing in here imports
// the product; it sees what a neighbouring MTA, an analyst's browser and a
// person at psql would see.
package e2e
