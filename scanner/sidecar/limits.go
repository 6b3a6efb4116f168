package sidecar

import (
	"errors"
	"time"

	"mailward/scanner/sidecar/document"
)

// Limits bound what one mail may cost. Whoever hits one gets class unscannable;
// docs/standards.md has the same table, compared by a test.
type Limits struct {
	HeaderBytes  int           // of one header
	Parts        int           // of MIME
	Depth        int           // of MIME
	Readings     int           // of one part, by clients that disagree
	ArchiveDepth int           // archives in archives
	Files        int           // in all archives of a mail
	Ratio        int64         // unpacked to packed, of one file over 1 MiB
	Dictionary   int64         // bytes that an archive may have its reader hold
	TotalBytes   int64         // unpacked, of all archives and parts of a mail
	Time         time.Duration // for one mail
}

// DefaultLimits are the limits in force.
func DefaultLimits() Limits {
	return Limits{HeaderBytes: 1 << 20, Parts: 1000, Depth: 50, Readings: 8, ArchiveDepth: 10, Files: 10_000, Ratio: 200, Dictionary: 128 << 20, TotalBytes: 400 << 20, Time: 20 * time.Second}
}

// Errors of limits; their text is what people read.
var (
	errHeaderLimit   = errors.New("its header is over 1 MB")
	errPartsLimit    = errors.New("it has over 1,000 parts")
	errDepthLimit    = errors.New("its parts are nested over 50 deep")
	errReadingsLimit = errors.New("a part of it can be read in over 8 ways")
	errDictionary    = errors.New("an archive in it wants over 128 MB of memory")
	errArchiveDepth  = errors.New("its archives are nested over 10 deep")
	errFilesLimit    = errors.New("its archives hold over 10,000 files")
	errRatioLimit    = errors.New("an archive in it unpacks to over 200 times its size")
	errTotalLimit    = errors.New("it unpacks to over 400 MB")
	errTimeLimit     = errors.New("it takes over 20 seconds to take apart")
)

// limitOf is the one of them that err is about; nil: err is about something else.
func limitOf(err error) error {
	for _, l := range []error{errHeaderLimit, errPartsLimit, errDepthLimit, errReadingsLimit, errDictionary, errArchiveDepth, errFilesLimit, errRatioLimit, errTotalLimit, errTimeLimit, document.ErrBytes} {
		if errors.Is(err, l) {
			return l
		}
	}
	return nil
}

func isLimit(err error) bool { return limitOf(err) != nil }
