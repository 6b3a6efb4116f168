// Files that have no business in a mail. The externals part_name, part_ext,
// part_type, true_type, part_depth and in_archive come from the sidecar. A rule
// that goes by the name alone says suspicious: malware is for what is in a file.
// How much of a piece the rules get is in reach.go. A piece without a name is
// spared the patterns for names, which cost more than all else here.

rule Script_Attachment
{
    meta:
        description = "A script or package is attached that runs or installs itself at a double click"
        author = "Mailward"
        class = "suspicious"
        score = "8"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1566/001/"
    condition:
        part_ext != "" and part_ext matches /^\.(js|jse|vb|vbs|vbe|ws|wsf|wsh|hta|ps1|ps1xml|psm1|psd1|psc1|msh|bat|cmd|scr|pif|cpl|msc|jar|reg|sct|wsc|gadget|application|appref-ms|appinstaller|appx|appxbundle|msix|msixbundle|settingcontent-ms|diagcab|diagpkg|msp|mst|msu|ppkg|xbap|vsto|hlp|wsb|ade|adp|mde|accde|crx|xpi|apk|command|terminal|inetloc|fileloc|workflow|scpt|mobileconfig)$/
}

rule Executable_Attachment
{
    meta:
        description = "A Windows program is attached"
        author = "Mailward"
        class = "malware"
        score = "10"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1204/002/"
    condition:
        uint16(0) == 0x5A4D and filesize > 256 and uint32(0x3C) < filesize and uint32(uint32(0x3C)) == 0x00004550
}

rule Double_Extension
{
    meta:
        description = "A file name pretends to be a document but ends in something that runs"
        author = "Mailward"
        class = "suspicious"
        score = "8"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1036/007/"
    condition:
        part_name != "" and part_name matches /\.(pdf|docx?|xlsx?|pptx?|txt|rtf|jpe?g|png|gif|csv|zip|html?)[ ._-]*\.(js|jse|vbs|vbe|wsf|hta|ps1|bat|cmd|scr|exe|com|pif|lnk|jar|msi|iso|img|svg|html?)$/i
}

rule Right_To_Left_Name
{
    meta:
        description = "A file name is written backwards to hide its ending"
        author = "Mailward"
        class = "suspicious"
        score = "8"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1036/002/"
    condition:
        part_name contains "\xe2\x80\xae" or part_name contains "\xe2\x81\xa7"
}

rule Disk_Image
{
    meta:
        description = "A disk image is attached: what is in it does not carry the mark of the web"
        author = "Mailward"
        class = "suspicious"
        score = "7"
        severity = "warn"
        reference = "https://attack.mitre.org/techniques/T1553/005/"
    strings:
        $iso = "CD001"
        $vhdx = "vhdxfile"
        $vhd = "conectix"
    condition:
        (part_ext != "" and part_ext matches /^\.(iso|img|vhd|vhdx|udf|dmg)$/) or $iso at 0x8001 or $vhdx at 0 or $vhd at 0
}

rule Shortcut_File
{
    meta:
        description = "A Windows shortcut is attached, which can start any program"
        author = "Mailward"
        class = "malware"
        score = "10"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1204/002/"
    condition:
        (uint32(0) == 0x0000004C and uint32(4) == 0x00021401) or part_ext == ".lnk"
}

rule OneNote_With_Script
{
    meta:
        description = "A OneNote file holds an embedded script or program"
        author = "Mailward"
        class = "malware"
        score = "10"
        severity = "critical"
        reference = "https://attack.mitre.org/techniques/T1566/001/"
    strings:
        $embedded = { E7 16 E3 BD 65 26 11 45 A4 C4 8D 4D 0B 7A 9E AC }
        $hta = "<script" nocase
        $vbs = "WScript.Shell" nocase
        $ps = "powershell" nocase
        $bat = "@echo off" nocase
        $mz = "This program cannot be run in DOS mode"
    condition:
        uint32(0) == 0x7B5C52E4 and $embedded and any of ($hta, $vbs, $ps, $bat, $mz)
}
