package pg

import "embed"

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	setClaimSQL   = Query(queryFiles, "set_claim")
	privilegesSQL = Query(queryFiles, "privileges")

	// What migrations need.
	migrationFileTableSQL = Query(queryFiles, "migration_file_table")
	migrationFilesSQL     = Query(queryFiles, "migration_files")
	noteMigrationFileSQL  = Query(queryFiles, "note_migration_file")
	guardLevelSQL         = Query(queryFiles, "guard_level")
	findingsSQL           = Query(queryFiles, "findings")
	maintenanceSQL        = Query(queryFiles, "maintenance")
	sealSQL               = Query(queryFiles, "seal")
	repointSQL            = Query(queryFiles, "repoint")
	makePartitionsSQL     = Query(queryFiles, "make_partitions")
	setPasswordSQL        = Query(queryFiles, "set_password_statement")
	mapTraceSQL           = Query(queryFiles, "map_trace_statement")
	riverGrantedSQL       = Query(queryFiles, "river_granted")
	riverGrantSQL         = Query(queryFiles, "river_grant")
	riverSchemaSQL        = Query(queryFiles, "river_schema")
	migrateLockSQL        = Query(queryFiles, "migrate_lock")
)
