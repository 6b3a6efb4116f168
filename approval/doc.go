// Package approval holds acts that wait for a second person.
//
// It is not on a mail's path. Whoever wants an act that takes two people writes
// a request here, in the transaction of its intent event ([Store.Ask]); a second
// person's word ([Store.Decide]) is checked and put on record in the transaction
// that also does the act, or does not do it. What the act is belongs to the
// package that asked: role changes to identity, for one. Releases have a table of
// their own in package quarantine; the inbox ([Store.List]) shows both.
//
// Two people are two humans: a token counts as its owner, and an account that
// the one who asks has made or given a role in the last day does not count.
package approval
