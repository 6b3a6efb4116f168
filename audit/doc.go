// Package audit is the record of acts: who did what, when, from where and why.
//
// It is beside a mail's path, not on it: a mail that is passed on goes to the
// ledger alone, one that is held, released or looked at is here too. An event
// is the exact bytes of one JSON object, written in the transaction of the act
// through a database function, and never changed: triggers refuse and trace
// every attempt (see migrations/0003 and 0005). Personal values are kept apart,
// with only commitments to them in the bytes.
//
// Background loops number the events and hash each into a leaf of a Merkle
// tree ([Log.RunSequencer]), copy them elsewhere ([Log.RunSink]) and watch the
// guards ([Log.RunGuard]). Changes of rows are recorded by triggers; the events
// made here are of acts that change no row.
package audit
