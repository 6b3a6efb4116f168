#!/bin/sh
# Installs what Mailward needs on Debian, and nothing that is there already. A
# second run does nothing and takes well under a second.
#
# As root it installs packages and makes the two users that the embedded servers
# run as. As anybody else it only says what is missing. --test adds what only the
# tests need.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# What must be there: a program, and the package that brings it.
missing=""
need() { # package, test...
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
postgres_there() { ls /usr/lib/postgresql/*/bin/postgres || command -v postgres; }
clamd_there() { command -v clamd || test -x /usr/sbin/clamd; }
yara_there() { pkg-config --atleast-version=4.3 yara; }

need git command -v git
need make command -v make
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
need pkg-config command -v pkg-config
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
need libdeflate-dev pkg-config --exists libdeflate
need postgresql postgres_there
need redis-server command -v redis-server
need clamav-daemon clamd_there
need nodejs command -v node
need npm command -v npm
if [ "${1:-}" = "--test" ]; then
    # Mail servers and clients that the tests put before and behind us.
    need postfix test -x /usr/sbin/postfix
    need swaks command -v swaks
    need rspamd command -v rspamd
    need libnet-ssleay-perl perl -MNet::SSLeay -e 1
    need chromium command -v chromium
    need chromium-headless-shell command -v chromium-headless-shell
    # What evidence is checked with by others.
    need openssl command -v openssl
    need poppler-utils command -v pdfsig
    need 7zip command -v 7zz
fi

yara_missing=""
yara_there || yara_missing=yes

if [ -n "$missing$yara_missing" ]; then
    [ "$(id -u)" = 0 ] || die "missing:$missing${yara_missing:+ libyara-dev (4.3 or newer)}; run this as root"
    command -v apt-get >/dev/null || die "missing:$missing${yara_missing:+ libyara-dev (4.3 or newer)}, and there is no apt-get: install them by hand"
    export DEBIAN_FRONTEND=noninteractive

    # The packages would start servers of their own, which nobody needs here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi

    say "installing:$missing${yara_missing:+ libyara-dev}"
    apt-get update -qq
    case "$missing" in
    *postfix*) echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections ;;
    esac
    # shellcheck disable=SC2086
    [ -z "$missing" ] || apt-get install -y -qq --no-install-recommends $missing

    if ! yara_there; then
        . /etc/os-release
        backports=""
        # Debian 12 has libyara 4.2; 4.5 is in backports, on the mirror that this
        # machine uses already.
        if [ "${VERSION_CODENAME:-}" = bookworm ]; then
            backports="-t bookworm-backports"
            if ! apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' | grep -qx bookworm-backports; then
                uri=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "bookworm" && $2 == "main" { print $3; exit }')
                [ -n "$uri" ] || die "the apt sources of this machine have no suite bookworm: add bookworm-backports by hand, then: apt-get install -t bookworm-backports libyara-dev"
                key=/usr/share/keyrings/debian-archive-keyring.gpg
                printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\n' "$uri" >/etc/apt/sources.list.d/mailward-backports.sources
                [ ! -e "$key" ] || printf 'Signed-By: %s\n' "$key" >>/etc/apt/sources.list.d/mailward-backports.sources
                apt-get update -qq
            fi
        fi
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $backports libyara-dev
        yara_there || die "libyara-dev is older than 4.3: the scanner needs 4.3 or newer"
    fi
fi

# The users of the embedded servers: the databases, and what opens hostile bytes.
if [ "$(id -u)" = 0 ]; then
    for user in mailward-db mailward-scan; do
        id "$user" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    done
fi

command -v go >/dev/null || die "Go is not installed: see https://go.dev/dl/ (the version stands in go.mod)"

# The packages of the web assets, when their list has changed.
stamp=webui/node_modules/.mailward-lock
if [ -f webui/package-lock.json ] && ! cmp -s webui/package-lock.json "$stamp"; then
    say "installing the Node packages of the web assets"
    (cd webui && npm ci --no-audit --no-fund --loglevel=error >&2)
    cp webui/package-lock.json "$stamp"
fi

# An S3 server with Object Lock, for the tests: no Debian package has one.
if [ "${1:-}" = "--test" ] && ! command -v versitygw >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        say "building versitygw, an S3 server for the tests (a minute or two)"
        GOBIN=/usr/local/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
    else
        say "versitygw is missing: as root, GOBIN=/usr/local/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
    fi
fi
