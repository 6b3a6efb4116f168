package audit

// What can be done, as `object.verb`. Row changes have the same form, made by
// the triggers: policy.update, role.create, quarantine.recipient.update.
const (
	Login            = "auth.login"
	LoginFailed      = "auth.login_failed"
	Logout           = "auth.logout"
	StepUp           = "auth.step_up"
	PasswordChange   = "auth.password_change"
	PasswordReset    = "auth.password_reset"
	MFAFailed        = "auth.mfa_failed"
	MFAChange        = "auth.mfa_change"
	RecoveryCode     = "auth.recovery_code" // one was used in place of a second factor
	Lockout          = "auth.lockout"
	SessionRevoke    = "auth.session_revoked"
	BreakGlass       = "auth.breakglass"
	SSOStart         = "auth.sso_start"
	SSOLogout        = "auth.sso_logout"
	RoleGrant        = "role.grant"
	RoleRequest      = "role.grant.request"
	RoleApprove      = "role.grant.approve"
	RoleDeny         = "role.grant.deny"
	RoleRevoke       = "role.revoke"
	RetentionRequest = "retention.request" // of a change, or of a deletion
	RetentionExecute = "retention.execute" // by one person alone
	RetentionApprove = "retention.approve"
	RetentionDeny    = "retention.deny"
	APIRefused       = "api.refused" // calls without a login that were too many to be written one by one
	ItemCreate       = "quarantine.item.create"
	ViewBody         = "quarantine.view_body"
	RawDownload      = "quarantine.raw_download"
	ReleaseRequest   = "quarantine.release.request"
	ReleaseExecute   = "quarantine.release.execute"
	ReleaseResult    = "quarantine.release.result"
	ReleaseApprove   = "quarantine.release.approve"
	ReleaseDeny      = "quarantine.release.deny"
	SandboxVerdict   = "quarantine.sandbox.verdict"
	SandboxLate      = "quarantine.sandbox.late" // malicious, after the mail was decided
	SandboxRequest   = "quarantine.sandbox.request"
	SandboxRelease   = "quarantine.release.sandbox"
	ItemDelete       = "quarantine.delete"
	ItemExpire       = "quarantine.expire"
	QueueRetry       = "queue.retry"
	QueueDelete      = "queue.delete"
	BacktestResult   = "yara.backtest.result"
	APICall          = "api.call"
	PageView         = "web.view"
	AuditExport      = "audit.export"
	PolicyTry        = "policy.try"            // mail is read to see what a policy would do
	IntelImport      = "intel.import"          // indicators that a person has gathered
	MailcowDomain    = "mailcow.domain.create" // a domain in the mailcow behind us
	IntelSync        = "intel.feed.sync"
	IntelSyncNow     = "intel.feed.sync_now"
	GuardViolation   = "guard.violation"
	Retention400Days = "sec-400d"
	Retention3Years  = "sec-3y"
)
