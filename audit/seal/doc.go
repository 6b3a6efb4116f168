// Package seal signs the head of the audit's Merkle tree and leaves it with
// others, so that a later change to what was signed is found by whoever kept an
// earlier head.
//
// It is beside a mail's path. Each minute one process reads the events that are
// new, checks that the tree has only grown since the last signature, signs a
// checkpoint and remembers it outside of the database ([Memory]); [Anchor]s take
// it out of our reach. A tree that does not contain what was signed is never
// signed: a database that was rolled back or rewritten stops here, until
// somebody says that the restore was lawful ([Sealer.Reanchor]).
package seal
