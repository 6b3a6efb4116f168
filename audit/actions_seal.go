package audit

// What happens to the record itself.
const (
	SealKey         = "audit.seal.key"      // another key signs from now on
	SealOrigin      = "audit.seal.origin"   // a tree was begun
	Reanchor        = "audit.seal.reanchor" // after a restore, under a new name
	VerifyRun       = "audit.verify"        // somebody had all of it checked
	Heartbeat       = "audit.heartbeat"     // nothing happened for an hour
	AnchorFailed    = "audit.anchor.failed"
	AnchorRecovered = "audit.anchor.recovered"
	PIIErased       = "audit.pii.erased"
	PartitionPurged = "audit.partition.purged"
	SinkFailed      = "logging.sink_failed"
	SinkRecovered   = "logging.sink_recovered"
	LoggingStart    = "logging.start" // a process records from now on
	LoggingStop     = "logging.stop"  // it ends in order
	ConfigReload    = "config.reload" // SIGHUP: the settings that count from now on
)
