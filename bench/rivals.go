package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The other gateways. Each takes mail by SMTP, has the whole of it scanned by
// the same clamd, refuses what is infected, and passes the rest to the next hop.

func startClamavMilter(ctx context.Context, b *bed, dir, hop string) (*running, error) {
	r := &running{}
	addr, err := freeAddress()
	if err != nil {
		return r, err
	}
	conf := filepath.Join(dir, "milter.conf")
	text := fmt.Sprintf("MilterSocket inet:%s@127.0.0.1\nClamdSocket unix:%s\nForeground yes\nFixStaleSocket yes\nOnInfected Reject\nOnClean Accept\nOnFail Defer\nAddHeader No\nMaxFileSize 100M\nReadTimeout 120\nLogFileMaxSize 0\n",
		port(addr), b.clamd)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return r, err
	}
	s, err := startService(dir, "clamav-milter", "/usr/sbin/clamav-milter", "-c", conf)
	if err := r.add(s, err); err != nil {
		return r, err
	}
	if err := s.waitFor(ctx, 30*time.Second, listening("tcp", addr)); err != nil {
		return r, err
	}
	return r, r.startPostfix(ctx, dir, hop, postfixInstance{main: "smtpd_milters = inet:" + addr + "\nmilter_default_action = tempfail\nmilter_content_timeout = 300s\n"})
}

// rspamdOff is what would ask the network, or keep statistics in Redis.
var rspamdOff = strings.Fields(`asn arc bimi dcc dkim dkim_signing dmarc fuzzy_check greylist history_redis http_headers mx_check neural once_received phishing ratelimit rbl replies
	reputation rspamd_update spf surbl url_redirector whitelist metric_exporter clickhouse elastic known_senders contextal`)

func startRspamd(ctx context.Context, b *bed, dir, hop string) (*running, error) {
	r := &running{}
	addrs, err := freeAddresses(2)
	if err != nil {
		return r, err
	}
	files := map[string]string{
		"options.inc": fmt.Sprintf("dns { nameserver = [\"127.0.0.1:%s:1\"]; timeout = 1s; retransmits = 1; enable_dnssec = false; }\nlocal_addrs = [];\nallow_raw_input = true;\nmessage_size_limit = 104857600; max_message = 100Mb; task_timeout = 110s; map_watch_interval = 1d;\n", port(b.resolver)),
		"antivirus.conf": fmt.Sprintf("enabled = true;\nclamav { type = \"clamav\"; symbol = \"CLAM_VIRUS\"; servers = %q; action = \"reject\"; max_size = 104857600;\n  scan_mime_parts = false; scan_text_mime = false; scan_image_mime = true; log_clean = false; timeout = 60; retransmits = 2; }\n",
			b.clamd),
		"actions.conf":          "reject = 1500; add_header = 1400; greylist = 1300;\n",
		"worker-normal.inc":     "enabled = false;\n",
		"worker-proxy.inc":      fmt.Sprintf("bind_socket = %q; count = 2; milter = yes; timeout = 120s;\nupstream \"local\" { default = yes; self_scan = yes; }\n", addrs[0]),
		"worker-controller.inc": fmt.Sprintf("bind_socket = %q; count = 1; password = \"x\"; enable_password = \"x\";\n", addrs[1]),
		"logging.inc":           fmt.Sprintf("type = \"file\"; filename = %q; level = \"warning\";\n", filepath.Join(dir, "log", "rspamd.log")),
	}
	for _, m := range rspamdOff {
		files[m+".conf"] = "enabled = false;\n"
	}
	for _, d := range []string{"etc/local.d", "etc/override.d", "etc/maps.d", "db", "run", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return r, err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "etc/local.d", name), []byte(text), 0o644); err != nil {
			return r, err
		}
	}
	if err := own(dir, "_rspamd"); err != nil {
		return r, err
	}
	s, err := startService(dir, "rspamd", "/usr/bin/rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf",
		"--var=LOCAL_CONFDIR="+filepath.Join(dir, "etc"), "--var=DBDIR="+filepath.Join(dir, "db"), "--var=RUNDIR="+filepath.Join(dir, "run"), "--var=LOGDIR="+filepath.Join(dir, "log"))
	if err := r.add(s, err); err != nil {
		return r, err
	}
	if err := s.waitFor(ctx, 30*time.Second, listening("tcp", addrs[0])); err != nil {
		return r, err
	}
	return r, r.startPostfix(ctx, dir, hop, postfixInstance{main: "smtpd_milters = inet:" + addrs[0] + "\nmilter_default_action = tempfail\nmilter_protocol = 6\nmilter_content_timeout = 300s\n"})
}

const amavisConf = `use strict;
$max_servers = 4; $max_requests = 1000;
$daemon_user = 'amavis'; $daemon_group = 'amavis';
$mydomain = 'gw.%[5]s'; $myhostname = 'gw.%[5]s';
$MYHOME = '%[1]s/home'; $TEMPBASE = '%[1]s/tmp'; $ENV{TMPDIR} = $TEMPBASE; $QUARANTINEDIR = undef;
$db_home = '%[1]s/db'; $pid_file = '%[1]s/amavis.pid'; $lock_file = '%[1]s/amavis.lock'; $helpers_home = '%[1]s/home';
$log_level = 0; $do_syslog = 0; $logfile = '%[1]s/amavis.log'; $enable_db = 0; $enable_zmq = 0; $nanny_details_level = 0;
$enable_dkim_verification = 0; $enable_dkim_signing = 0;
$inet_socket_bind = '127.0.0.1'; $inet_socket_port = %[2]s; $unix_socketname = undef;
$forward_method = 'smtp:[127.0.0.1]:%[3]s'; $notify_method = $forward_method;
@local_domains_maps = ( [ '%[5]s' ] ); @mynetworks = qw( 127.0.0.0/8 );
$final_virus_destiny = D_REJECT; $final_banned_destiny = D_PASS; $final_spam_destiny = D_PASS; $final_bad_header_destiny = D_PASS;
$virus_admin = undef; $spam_admin = undef; $warnvirussender = 0;
@bypass_banned_checks_maps = (1); @bypass_header_checks_maps = (1);
@bypass_spam_checks_maps = (1); @bypass_virus_checks_maps = (0);
$MAXLEVELS = 14; $MAXFILES = 3000; $MIN_EXPANSION_QUOTA = 100*1024; $MAX_EXPANSION_QUOTA = 500*1024*1024;
@decoders = ( ['mail', \&do_mime_decode], ['zip', \&do_unzip], ['gz', \&do_gunzip] );
@av_scanners = ( ['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {}\n", "%[4]s"], qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m ] );
@av_scanners_backup = ();
1;
`

func startAmavis(ctx context.Context, b *bed, dir, hop string) (*running, error) {
	r := &running{}
	addrs, err := freeAddresses(2)
	if err != nil {
		return r, err
	}
	inner, back := addrs[0], addrs[1]
	for _, d := range []string{"tmp", "var", "db", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, "amavis", d), 0o755); err != nil {
			return r, err
		}
	}
	if err := own(filepath.Join(dir, "amavis"), "amavis"); err != nil {
		return r, err
	}
	conf := filepath.Join(dir, "amavis.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, amavisConf, filepath.Join(dir, "amavis"), port(inner), port(back), b.clamd, domain), 0o644); err != nil {
		return r, err
	}
	s, err := startService(dir, "amavisd", "/usr/sbin/amavisd", "-c", conf, "foreground")
	if err := r.add(s, err); err != nil {
		return r, err
	}
	if err := s.waitFor(ctx, time.Minute, listening("tcp", inner)); err != nil {
		return r, err
	}
	return r, r.startPostfix(ctx, dir, hop, postfixInstance{
		smtpd:  "-o smtpd_proxy_filter=" + inner + " -o smtpd_proxy_options=speed_adjust -o smtpd_proxy_timeout=200s",
		master: back + " inet n - n - - smtpd -o smtpd_proxy_filter= -o smtpd_authorized_xforward_hosts=127.0.0.0/8 -o smtpd_client_connection_count_limit=0 -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks",
	})
}

func startClamsmtp(ctx context.Context, b *bed, dir, hop string) (*running, error) {
	r := &running{}
	addr, err := freeAddress()
	if err != nil {
		return r, err
	}
	conf := filepath.Join(dir, "clamsmtpd.conf")
	text := fmt.Sprintf("OutAddress: %s\nListen: %s\nClamAddress: %s\nTempDirectory: %s\nMaxConnections: 128\nTimeOut: 180\nAction: bounce\nQuarantine: off\nHeader:\n", hop, addr, b.clamd, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return r, err
	}
	s, err := startService(dir, "clamsmtp", "/usr/sbin/clamsmtpd", "-d", "1", "-f", conf)
	if err := r.add(s, err); err != nil {
		return r, err
	}
	r.open = func(per int) func() sender { return smtpTo(addr, per) }
	return r, s.waitFor(ctx, 30*time.Second, listening("tcp", addr))
}

func startHaraka(ctx context.Context, b *bed, dir, hop string) (*running, error) {
	r := &running{}
	module := filepath.Join(b.haraka, "node_modules", "Haraka")
	if _, err := os.Stat(module); b.haraka == "" || err != nil {
		return r, fmt.Errorf("%w: haraka", errNotInstalled)
	}
	addr, err := freeAddress()
	if err != nil {
		return r, err
	}
	connection, err := os.ReadFile(filepath.Join(module, "config", "connection.ini"))
	if err != nil {
		return r, err
	}
	lines := strings.Split(string(connection), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "bytes=") {
			lines[i] = "bytes=104857600"
		}
	}
	for _, d := range []string{"config", "plugins", "queue"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return r, err
		}
	}
	for name, text := range map[string]string{
		"smtp.ini":         fmt.Sprintf("listen=%s\nnodes=2\ndaemonize=false\n", addr),
		"connection.ini":   strings.Join(lines, "\n"),
		"me":               "gw." + domain + "\n",
		"host_list":        domain + "\n",
		"databytes":        "104857600\n",
		"log.ini":          "[main]\nlevel=warn\n",
		"loglevel":         "warn\n",
		"plugins":          "rcpt_to.in_host_list\nclamd\nqueue/smtp_forward\n",
		"smtp_forward.ini": fmt.Sprintf("host=127.0.0.1\nport=%s\nenable_tls=false\n", port(hop)),
		"clamd.ini":        fmt.Sprintf("[main]\nclamd_socket=%s\nonly_with_attachments=false\nrandomize_host_order=false\nconnect_timeout=10\ntimeout=110\nmax_size=104857600\n[reject]\nvirus=true\nerror=true\n", b.clamd),
	} {
		if err := os.WriteFile(filepath.Join(dir, "config", name), []byte(text), 0o644); err != nil {
			return r, err
		}
	}
	s, err := startService(dir, "haraka", "node", filepath.Join(module, "bin", "haraka"), "-c", dir)
	if err := r.add(s, err); err != nil {
		return r, err
	}
	r.open = func(per int) func() sender { return smtpTo(addr, per) }
	return r, s.waitFor(ctx, 30*time.Second, listening("tcp", addr))
}
