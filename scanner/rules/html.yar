// HTML that does more than show something. Names of JavaScript are matched in
// their own case, which the language insists on: a nocase string costs time at every byte.
// Which pieces they get is in reach.go.

rule HTML_Smuggling
{
    meta:
        description = "A page builds a file in the browser and offers it for download"
        author = "Mailward"
        class = "malware"
        score = "10"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1027/006/"
    strings:
        $blob = "new Blob"
        $url = "createObjectURL"
        $save = "msSaveOrOpenBlob"
        $atob = "atob("
        $b64 = "fromCharCode"
        $bytes = "Uint8Array"
        $dl1 = ".download"
        $dl2 = "download=" nocase
        $click = ".click()"
        $script = "<script" nocase
    condition:
        (part_ext matches /^\.(html?|xhtml|shtml|svg|mht)$/ or part_type == "text/html" or part_type == "image/svg+xml") and
        $script and ($blob or $save) and ($url or $save) and any of ($atob, $b64, $bytes) and any of ($dl1, $dl2, $click, $save)
}

rule Credential_Harvest_Form
{
    meta:
        description = "A page asks for a password and sends it to a foreign server"
        author = "Mailward"
        class = "phishing"
        score = "10"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1056/003/"
    strings:
        $form = /<form[^>]{0,500}action\s*=\s*["']?https?:\/\// nocase
        $password = /<input[^>]{0,300}type\s*=\s*["']?password/ nocase
    condition:
        (part_type == "text/html" or part_ext matches /^\.(html?|xhtml|shtml)$/) and $form and $password
}

rule Script_Password_Form
{
    meta:
        description = "An attached page asks for a password and sends it away by script"
        author = "Mailward"
        class = "phishing"
        score = "9"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1056/003/"
    strings:
        $password = /<input[^>]{0,300}type\s*=\s*["']?password/ nocase
        $send1 = "XMLHttpRequest"
        $send2 = "fetch("
        $send3 = "$.ajax"
        $send4 = "$.post"
        $bot = "api.telegram.org/bot" nocase
    condition:
        part_ext matches /^\.(html?|xhtml|shtml|svg)$/ and $password and any of ($send*, $bot)
}

rule SVG_Script
{
    meta:
        description = "A picture holds a script"
        author = "Mailward"
        class = "suspicious"
        score = "6"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1027/006/"
    strings:
        $svg = "<svg" nocase
        $script = "<script" nocase
        $on = /\son(load|click|begin)\s*=/ nocase
    condition:
        (part_ext == ".svg" or part_type == "image/svg+xml") and $svg and ($script or $on)
}
