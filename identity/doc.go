// Package identity knows the people: accounts, their roles, their sessions in a
// browser and their API tokens.
//
// It is not on a mail's path. Who may look at a held mail, or let it go, is
// decided here ([Principal.Can]), and every act in the database carries the
// session or token that this package handed out as its claim, which the
// database's triggers look up.
//
// Passwords are argon2id; cookies and tokens are random, and the database holds
// only their SHA-256. Each login, right or wrong, is in the audit, in the same
// transaction as the session that it opens.
package identity

import "github.com/google/uuid"

// DefaultWorkspace is the one workspace that every installation has.
var DefaultWorkspace = uuid.MustParse("00000000-0000-7000-8000-000000000001")
