package document

import (
	"path"
	"strings"
	"unicode"
)

// kind is what sort of file a type or an ending stands for.
type kind string

const (
	aProgram  kind = "a program"
	aScript   kind = "a script"
	aPage     kind = "a web page"
	anArchive kind = "an archive"
	aDocument kind = "a document"
	aPDF      kind = "a PDF file"
	aPicture  kind = "a picture"
	aFilm     kind = "a sound or film"
	aText     kind = "a text"
	aShortcut kind = "a shortcut"
	aNotebook kind = "a notebook"
)

// ofExt is what an ending promises.
var ofExt = map[string]kind{
	".exe": aProgram, ".scr": aProgram, ".com": aProgram, ".pif": aProgram, ".dll": aProgram, ".cpl": aProgram, ".msi": aProgram, ".xll": aProgram, ".wll": aProgram, ".ocx": aProgram, ".sys": aProgram, ".jar": aProgram, ".apk": aProgram, ".msix": aProgram, ".appx": aProgram, ".elf": aProgram, ".bin": "", ".gadget": aProgram, ".chm": aProgram,
	".html": aPage, ".htm": aPage, ".xhtml": aPage, ".shtml": aPage, ".mht": aPage, ".mhtml": aPage, ".svg": aPage,
	".zip": anArchive, ".rar": anArchive, ".7z": anArchive, ".gz": anArchive, ".tgz": anArchive, ".bz2": anArchive, ".xz": anArchive, ".tar": anArchive, ".cab": anArchive, ".iso": anArchive, ".img": anArchive, ".ace": anArchive, ".arj": anArchive, ".lzh": anArchive,
	".doc": aDocument, ".docx": aDocument, ".docm": aDocument, ".dot": aDocument, ".dotx": aDocument, ".dotm": aDocument, ".xls": aDocument, ".xlsx": aDocument, ".xlsm": aDocument, ".xlsb": aDocument, ".xlt": aDocument, ".xltm": aDocument, ".xlam": aDocument, ".ppt": aDocument, ".pptx": aDocument, ".pptm": aDocument, ".pps": aDocument, ".ppsx": aDocument, ".rtf": aDocument, ".odt": aDocument, ".ods": aDocument, ".odp": aDocument,
	".pdf": aPDF,
	".jpg": aPicture, ".jpeg": aPicture, ".png": aPicture, ".gif": aPicture, ".bmp": aPicture, ".tif": aPicture, ".tiff": aPicture, ".webp": aPicture, ".ico": aPicture, ".heic": aPicture,
	".mp3": aFilm, ".wav": aFilm, ".mp4": aFilm, ".avi": aFilm, ".mov": aFilm, ".ogg": aFilm,
	".txt": aText, ".csv": aText, ".log": aText, ".md": aText, ".ics": aText, ".vcf": aText,
	".lnk": aShortcut, ".url": aShortcut, ".scf": aShortcut, ".library-ms": aShortcut, ".search-ms": aShortcut, ".settingcontent-ms": aShortcut,
	".one": aNotebook, ".onepkg": aNotebook,
}

// windowsProgram is the type of all that begins as one; a rule looks closer.
const windowsProgram = "application/vnd.microsoft.portable-executable"

// ofType is what a true type is.
func ofType(t string) kind {
	switch t {
	case windowsProgram, "application/x-elf", "application/x-executable", "application/x-sharedlib", "application/x-object", "application/x-mach-binary", "application/java-archive", "application/x-java-applet", "application/x-ms-installer", "application/vnd.android.package-archive", "application/vnd.ms-htmlhelp", "application/x-chrome-extension":
		return aProgram
	case "text/html", "application/xhtml+xml", "image/svg+xml":
		return aPage
	case "application/zip", "application/x-7z-compressed", "application/vnd.rar", "application/x-rar-compressed", "application/gzip", "application/x-bzip2", "application/x-xz", "application/x-tar", "application/vnd.ms-cab-compressed":
		return anArchive
	case "application/pdf":
		return aPDF
	case "application/x-ms-shortcut":
		return aShortcut
	case "application/onenote":
		return aNotebook
	case "text/rtf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/x-ole-storage":
		return aDocument
	}
	switch {
	case strings.HasPrefix(t, "application/vnd.openxmlformats"), strings.HasPrefix(t, "application/vnd.oasis"):
		return aDocument
	case strings.HasPrefix(t, "image/"):
		return aPicture
	case strings.HasPrefix(t, "audio/"), strings.HasPrefix(t, "video/"):
		return aFilm
	}
	return ""
}

// inert says whether a kind of file does nothing by itself, so that nobody
// thinks before opening it.
func (k kind) inert() bool {
	return k == aDocument || k == aPDF || k == aPicture || k == aFilm || k == aText
}

// Blanks is a name with each character that shows nothing but a gap as a blank.
func Blanks(name string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) || c == '\u2800' || c == '\u3164' || c == '\u115f' || c == '\u1160' || c == '\uffa0' {
			return ' '
		}
		return c
	}, name)
}

// disguise compares what a file's name says with what it is.
func (r *reader) disguise() {
	name := Blanks(r.file.Name)
	if name == "" {
		return
	}
	if i := strings.IndexAny(name, "\u202e\u202d\u2066\u2067\u2068\u200f"); i >= 0 && strings.ContainsAny(name, "\u202e\u2067") {
		r.suspect("Name.RightToLeft", 9, "its name is written backwards in part, to hide how it ends", "name", name)
	}
	if strings.Contains(name, strings.Repeat(" ", 20)) || strings.Contains(name, strings.Repeat("_", 40)) && dangerousExt(r.file.ext()) {
		r.suspect("Name.Padded", 7, "its name has so many blanks that its ending is not seen", "name", name)
	}
	ext := r.file.ext()
	inner := strings.ToLower(path.Ext(strings.TrimRight(strings.TrimSuffix(strings.TrimRight(strings.ToLower(name), ". "), ext), " _")))
	if dangerousExt(ext) && ofExt[inner].inert() {
		r.suspect("Name.DoubleExtension", 9, "its name looks like that of "+string(ofExt[inner])+", but it runs", "name", name)
	}
	r.mismatch(ext)
}

// dangerousExt says whether a file with that ending runs at a double click.
func dangerousExt(ext string) bool {
	k := ofExt[ext]
	_, script := scriptExt[ext]
	return k == aProgram || k == aShortcut || script
}

func (r *reader) mismatch(ext string) {
	claimed, is := ofExt[ext], ofType(r.file.Type)
	if is == "" && isProgram(r.file.Data) {
		is = aProgram
	}
	// Classes of Java are pieces of a program, of which there are thousands.
	if is == aProgram && (claimed == "" || claimed == aProgram) && r.file.Type != windowsProgram && r.file.Type != "application/x-java-applet" {
		r.suspect("Type.Program", 8, "it is a program", "name", r.file.Name, "type", r.file.Type)
	}
	if claimed == "" || is == "" || claimed == is {
		return
	}
	switch {
	case is == aProgram && !(claimed == anArchive && ext != ".zip"):
		r.suspect("Type.Program", 9, "its name says that it is "+string(claimed)+", but it is a program", "name", r.file.Name, "type", r.file.Type)
	case is == aShortcut:
		r.suspect("Type.Shortcut", 9, "its name says that it is "+string(claimed)+", but it is a shortcut", "name", r.file.Name, "type", r.file.Type)
	case is == aPage && (claimed == aPDF || claimed == aPicture && r.file.Type != "image/svg+xml" || claimed == aFilm):
		r.suspect("Type.Page", 6, "its name says that it is "+string(claimed)+", but it is a web page", "name", r.file.Name, "type", r.file.Type)
	case is == anArchive && (claimed == aPDF || claimed == aPicture || claimed == aFilm):
		r.sign("Type.Archive", 3, "its name says that it is "+string(claimed)+", but it is an archive", "name", r.file.Name, "type", r.file.Type)
	case is == aPage || is == anArchive || claimed == aProgram:
		// Excel writes web pages as .xls, and new documents are archives.
		r.sign("Type.Mismatch", 0.5, "its name says that it is "+string(claimed)+", but it is "+string(is), "name", r.file.Name, "type", r.file.Type)
	default:
		r.sign("Type.Mismatch", 0.3, "its name says that it is "+string(claimed)+", but it is "+string(is), "name", r.file.Name, "type", r.file.Type)
	}
}
