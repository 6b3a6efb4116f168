package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"mailward/health"
	"mailward/quarantine"
)

// buildQuarantine makes the store of held mail. Database and audit are there.
func (p *program) buildQuarantine() error {
	if err := p.openBao(); err != nil {
		return err
	}
	var transit quarantine.Transit
	if p.bao != nil {
		transit = p.bao
	}
	var err error
	if p.blobKeys, err = quarantine.OpenKeys(p.conf.subdir("keys", "blob.key"), transit, strings.TrimPrefix(p.conf.Quarantine.Key, "bao:")); err != nil {
		return err
	}
	folder, err := p.blobFolder()
	if err != nil {
		return err
	}
	p.quarantine = quarantine.New(p.conf.quarantineConfig(), p.db, quarantine.NewBlobsIn(folder, p.blobKeys), p.audit, p.log)
	return nil
}

func (p *program) blobFolder() (quarantine.Folder, error) {
	objects, prefix, err := p.conf.Quarantine.bucket()
	if err != nil {
		return nil, fmt.Errorf("quarantine.store %w", err)
	}
	if objects == nil {
		return quarantine.NewDir(p.conf.subdir("blobs"))
	}
	temp := p.conf.subdir("spool")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	return quarantine.Bucket{Objects: objects, Prefix: prefix, Temp: temp}, nil
}

func (p *program) blobStatus(ctx context.Context) (health.BlobStatus, error) {
	s, err := p.quarantine.BlobStatus(ctx, p.blobKeys)
	out := health.BlobStatus{Missing: s.Missing, MissingSince: s.MissingSince, SweptAt: s.SweptAt, Refused: s.Refused, SweepTrouble: s.SweepTrouble, UnknownKeys: s.UnknownKeys,
		FailingSince: s.Trouble.Since, Full: s.Trouble.Full}
	if s.Trouble.Err != nil {
		out.Trouble = s.Trouble.Err.Error()
	}
	return out, err
}
