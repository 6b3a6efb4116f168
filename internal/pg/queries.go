package pg

import "embed"

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	setClaimSQL   = Query(queryFiles, "set_claim")
	privilegesSQL = Query(queryFiles, "privileges")
)
