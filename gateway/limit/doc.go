// Package limit decides who may connect to the edge and how much a client and a
// sender may send: connections at a time, rates, bad commands, DNSBL,
// greylisting, and whether a recipient is known behind us.
//
// It stands at the very front of a mail's path. The gateway asks it before the
// greeting ([Guard.Connect], [Guard.GreetPause]), at MAIL ([Guard.Mail]), at
// RCPT ([Guard.Rcpt], [Recipients.Known]) and tells it what was taken
// ([Guard.Sent]) and what was nonsense ([Guard.BadCommand]). Nothing here looks
// at content, and no answer from here makes a mail safe: this package can only
// say "not now" or "not you".
//
// Counters are in Redis, shared by all processes, one script and one round trip
// an event. Every process also counts by itself; while Redis is down or slower
// than [redisTimeout] its own counters are all there is. Trouble with Redis or
// DNS never refuses a mail.
//
// What is kept about a client or a sender is kept under a keyed hash, in Redis
// as well as in memory.
package limit
