package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// postfixInstance is what one private Postfix differs in.
type postfixInstance struct {
	main   string // more lines of main.cf
	smtpd  string // options of the smtpd that takes mail
	master string // more lines of master.cf
}

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = gw.%[3]s
mydestination =
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_host_lookup = native
relayhost = [127.0.0.1]:%[2]s
relay_domains = %[3]s
local_recipient_maps =
alias_maps =
alias_database =
message_size_limit = 104857600
mailbox_size_limit = 0
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/maillog
in_flow_delay = 0
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = none
smtp_tls_security_level = none
default_process_limit = 100
default_destination_concurrency_limit = 20
bounce_queue_lifetime = 0
`

const postfixMaster = `%s inet n - n - - smtpd %s
%s
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix adds a private Postfix to what runs; mail for the next hop goes
// to hop. All of it lies below dir.
func (r *running) startPostfix(ctx context.Context, dir, hop string, p postfixInstance) error {
	if os.Getuid() != 0 {
		return errNeedsRoot
	}
	if _, err := exec.LookPath("/usr/sbin/postfix"); err != nil {
		return fmt.Errorf("%w: postfix", errNotInstalled)
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "postfix")
	for _, d := range []string{"etc", "spool", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := own(filepath.Join(dir, "data"), "postfix"); err != nil {
		return err
	}
	etc := filepath.Join(dir, "etc")
	for name, text := range map[string]string{
		"main.cf":   fmt.Sprintf(postfixMain, dir, port(hop), domain) + p.main,
		"master.cf": fmt.Sprintf(postfixMaster, addr, p.smtpd, p.master),
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, "/usr/sbin/postfix", "-c", etc, "check").CombinedOutput(); err != nil {
		return fmt.Errorf("postfix check: %w\n%s", err, out)
	}
	s, err := startService(dir, "postfix", "/usr/sbin/postfix", "-c", etc, "start-fg")
	if err := r.add(s, err); err != nil {
		return err
	}
	r.open = func(per int) func() sender { return smtpTo(addr, per) }
	return s.waitFor(ctx, 30*time.Second, listening("tcp", addr))
}

func startPostfixAlone(ctx context.Context, _ *bed, dir, hop string) (*running, error) {
	r := &running{}
	return r, r.startPostfix(ctx, dir, hop, postfixInstance{})
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// own gives a folder and what is in it to the user of a server.
func own(dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("%w: no user %s", errNotInstalled, name)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, gid)
	})
}
