// Package quarantine keeps back mail that must not be delivered now.
//
// On a mail's path it is one of the two safe ends: the gateway says 250 for a
// held mail only after [Store.Hold] has returned. An item is a row in
// PostgreSQL with one row per recipient, and an encrypted file. The file is
// written first; the rows and their audit event follow in one transaction. A
// file without a row is garbage and is swept; a row without a file is a fault.
//
// The package never sends mail. [Store.Release] only writes what a person has
// decided: the audit event with the intent, a release that names it, and a
// delivery per recipient. The gateway's worker asks [Store.CheckRelease] before
// each attempt, so that a row made by hand at psql is not delivered.
package quarantine
