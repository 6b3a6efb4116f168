// Package deploy holds the files with which Mailward is run in production. There
// is no code here, only a test that compares them with the program: a command,
// flag, port or key that the binaries do not have must not stand in them.
package deploy
