// Package dlp finds what must not leave the house, or must not come in: numbers
// of cards, bank accounts and people, words, patterns, and copies of documents.
//
// On a mail's path it is a judge: the scanner asks it once the sidecar has read
// the mail, with the subject and all texts. It answers with one finding for each
// set of the mail's workspace that matches. What was matched never leaves this
// package: findings hold masked samples, and [Judge.Redact] masks the same text
// where the rest of the record would show it.
//
// A number counts only when its check digits are right and its shape is known.
// How sure that makes us is its [Confidence]: the way it is written, and words
// beside it, raise it. A [Set] says how many of which confidence matter.
//
// [Store] keeps the sets, with a snapshot in memory, so that a slow database
// delays no mail.
package dlp
