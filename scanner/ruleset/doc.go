// Package ruleset keeps the YARA rule sets that are managed in the web UI: their
// versions, which one is in use, and trials of a version on held mail.
//
// It is not on a mail's path. What is enabled is written into a folder, as one
// file and whole; the sidecar, which has neither network nor database, watches
// that folder, has new rules compiled aside, and takes them over only when they
// compile and its workers are ready. Every process of an installation writes the
// same file from the same rows, so that it does not matter which one is last.
//
// A rule is code that runs on every mail. So sources are compiled in the sidecar
// and nowhere else, a set is stored only when it compiles, and every change is on
// record by the database's triggers, with the source's SHA-256.
package ruleset
