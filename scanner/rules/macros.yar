// Office macros. The sidecar hands their source over in clear, as a piece of
// type text/x-vba. Names in OOXML have the case that its readers insist on.
// Which pieces they get is in reach.go.

rule Macro_Dropper
{
    meta:
        description = "A macro that starts by itself fetches or runs another program"
        author = "Mailward"
        class = "malware"
        score = "12"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1204/002/"
    strings:
        $auto1 = "AutoOpen" nocase
        $auto2 = "Document_Open" nocase
        $auto3 = "Workbook_Open" nocase
        $auto4 = "Auto_Open" nocase
        $auto5 = "AutoExec" nocase
        $auto6 = "Document_Close" nocase
        $auto7 = "AutoClose" nocase
        $do1 = "WScript.Shell" nocase
        $do2 = "URLDownloadToFile" nocase
        $do3 = "MSXML2.XMLHTTP" nocase
        $do4 = "ADODB.Stream" nocase
        $do5 = "powershell" nocase
        $do6 = "Shell(" nocase
        $do7 = "ShellExecute" nocase
        $do8 = "WinHttp.WinHttpRequest" nocase
        $do9 = "winmgmts:" nocase
        $do10 = "cmd /c" nocase
        $do11 = "mshta" nocase
    condition:
        true_type == "text/x-vba" and any of ($auto*) and any of ($do*)
}

rule Macro_Auto_Start
{
    meta:
        description = "A macro starts by itself when the document is opened"
        author = "Mailward"
        class = "suspicious"
        score = "6"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1204/002/"
    strings:
        $auto1 = "AutoOpen" nocase
        $auto2 = "Document_Open" nocase
        $auto3 = "Workbook_Open" nocase
        $auto4 = "Auto_Open" nocase
        $auto5 = "AutoExec" nocase
    condition:
        true_type == "text/x-vba" and any of them
}

rule Remote_Template
{
    meta:
        description = "A document loads a template with possible macros from the network"
        author = "Mailward"
        class = "suspicious"
        score = "8"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1221/"
    strings:
        $rel = "attachedTemplate"
        $ext = "TargetMode=\"External\""
        $url = /Target="(https?|file|\\\\)/ nocase
    condition:
        part_ext == ".rels" and in_archive and all of them
}
