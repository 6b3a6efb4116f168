// The mark of the test mails by which the gateway proves, every few minutes, that
// rules are really matched. It is a sign without weight: in anybody else's mail it
// means nothing.
// reach.go looks for the end of the mark before.

rule Mailward_Proof
{
    meta:
        description = "A test mail of the gateway's proof of detection"
        author = "Mailward"
        score = "0"
        severity = "info"
        reference = "docs/operations.md"
    strings:
        $mark = "mailward-proof-of-detection-7Qm2vXc9LrT4"
    condition:
        $mark
}
