// Package migrations holds the database schema as numbered SQL files. They are
// applied in order, each in one transaction, and never edited after a release:
// a change to the schema is a new file. Forward only: undoing one would destroy
// evidence.
package migrations

import "embed"

// Files are the migrations, named NNNN_verb_object.sql.
//
//go:embed *.sql
var Files embed.FS
