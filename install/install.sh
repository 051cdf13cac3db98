#!/bin/sh
# Installs Skerry, or a newer version of it, on any Linux with a POSIX shell.
#
#   curl -fsSL https://SERVER/install.sh | sudo SKERRY_URL=https://SERVER SKERRY_JOIN_FILE=- sh    a device; asks for the join string
#   curl -fsSL https://SERVER/install.sh | sudo SKERRY_URL=https://SERVER sh -s - cluster          a site's cluster agent
#   curl -fsSL https://SERVER/install.sh | sudo SKERRY_URL=https://SERVER sh -s - cli              the command line alone
#
# On a k3s server, cluster brings the devices into that cluster: it makes a service account with the rights the cluster agent needs and starts
# beside k3s. With --in-cluster k3s runs it, as a pod: the chart goes into k3s's directory of manifests, the image into that of images.
#   curl -fsSL https://SERVER/install.sh | sudo SKERRY_URL=https://SERVER SKERRY_ADVERTISE=192.0.2.1 sh -s - cluster --in-cluster
# A machine that can run k3s joins a cluster as an agent instead of being a device; k3s itself has to be on it:
#   SKERRY_K3S=join K3S_URL=https://192.0.2.1:6443 K3S_TOKEN='…' sh install.sh
#
# Every file is checked against a manifest that the release key in this script has signed; when anything is wrong, nothing is installed.
# A second run changes nothing; one for a newer version upgrades, and one after a run that was cut off mends. Configuration that somebody
# has changed is never overwritten: what would have been written goes beside it, as .new.
#
#   SKERRY_JOIN_FILE           file with the join string of the device, as `skerry token create` prints it; -: ask for it at the terminal
#   SKERRY_JOIN                the join string itself; as an argument of sudo it is seen in the list of processes and in sudo's log
#   SKERRY_NODE                edge: id of the node (the host name, made to fit)
#   SKERRY_LABELS              edge: labels of the node, as key=value with commas
#   SKERRY_ADVERTISE           cluster: names and addresses under which devices reach this machine, with commas
#   SKERRY_K3S                 cluster: no, to leave the k3s on this machine alone; edge: join, see above
#   K3S_URL, K3S_TOKEN         with join: the server and its token, as k3s's own installer takes them
#   K3S_DATA_DIR               directory of k3s's data (/var/lib/rancher/k3s)
#   SKERRY_URL                 release server, http or https
#   SKERRY_CHANNEL             channel to follow (stable)
#   SKERRY_VERSION             this version, in place of the channel's; an older one than what is there has to be asked for like this
#   SKERRY_RELEASE_KEY         release key to trust in place of the script's own, for who builds releases of his own
#   SKERRY_CA_FILE             PEM with the CA of the release server, in addition to the system's
#   http_proxy, https_proxy, no_proxy   as curl and wget know them
#   INSTALL_SKERRY_DIR         directory of the configuration (/etc/skerry)
#   INSTALL_SKERRY_BIN_DIR     directory of the programs (/usr/local/bin; /usr/bin on OpenWrt)
#   INSTALL_SKERRY_OFFLINE     path of a bundle (.tar.zst, .tar.gz, .tar) or of a release server's directory: no network is used
#   INSTALL_SKERRY_VARIANT     lite or full (auto: by memory and flash)
#   INSTALL_SKERRY_TARGET      such as linux-armv7 (auto); it has to run on this machine, unless there is a DESTDIR
#   INSTALL_SKERRY_INIT        systemd, openrc, procd or none (auto)
#   INSTALL_SKERRY_VERIFIER    openssl, minisign, signify, usign or skerry-verify (auto: the first that works)
#   INSTALL_SKERRY_SKIP_ENABLE 1: do not have it started at boot
#   INSTALL_SKERRY_SKIP_START  1: do not start it
#   INSTALL_SKERRY_WAIT        seconds to wait until it is online (60; in a cluster 300)
#   INSTALL_SKERRY_DRY_RUN     1: fetch and check everything, tell what would be written, and write nothing
#   DESTDIR                    install below this directory, for images; nothing is enabled or started
#
# Exit codes: 0 done, 1 failed, 2 refused before anything was fetched, 3 installed but not online.
#
# shellcheck disable=SC2317 # functions are called by name and by the trap
#
# Braces hold it all: a shell reads to the last one before it runs anything, so that half of this file does nothing.
{
set -eu

# The trust anchor, put in when a release is made.
release_key='@RELEASE_KEY@'
release_version='@RELEASE_VERSION@'
release_url='@RELEASE_URL@'
verifier_pins='@VERIFIER_PINS@'

# A mode's programs, of which the first is its service, if any; its configuration; and its state. The last two are asked for by
# --in-cluster and SKERRY_K3S=join.
modes="edge cluster cli"
set_mode() {
	case $1 in
	edge) programs="skerry-edge" service="skerry-edge" config="edge.yaml" ;;
	cluster) programs="skerry-cluster skerry" service="skerry-cluster" config="cluster.yaml" ;;
	cli) programs="skerry" service="" config="" ;;
	in-cluster) programs="skerry" service="" config="" ;;
	k3s-agent) programs="" service="k3s-agent" config="" ;;
	*) refuse "mode $1; wanted one of: $modes (or --help)" ;;
	esac
	mode=$1
}

main() {
	umask 022 # whatever the caller's: services that are not root read what is written
	export LC_ALL=C # and so are letters, and messages that are looked at
	init_state
	case ${1:-} in -h | --help | help) usage && exit ;; esac
	read_settings "$@"
	check_settings
	detect_system
	refuse_early
	trap 'cleanup' EXIT
	trap_signals
	work=$(mktemp -d "${TMPDIR:-/tmp}/skerry-install.XXXXXX") || fail "cannot make a directory in ${TMPDIR:-/tmp}"
	sweep
	if [ "$mode" = k3s-agent ]; then
		prepare_k3s_agent
	else
		choose_version
		fetch_manifest
		for program in $programs; do
			prepare_program "$program"
		done
		prepare_uninstaller
		prepare_configuration
		[ "$mode" != in-cluster ] || prepare_in_cluster
		[ -z "$beside_k3s" ] || prepare_beside_k3s
	fi
	put_in_place
	enable_service
	start_service
	wait_until_online
}

info() { echo "skerry: $*"; }
warn() { echo "skerry: warning: $*" >&2; }
fail() {
	echo "skerry: error: $*" >&2
	[ -z "${in_k3s:-}" ] || echo "skerry: $in_k3s stays in k3s; running this again goes on with it" >&2
	echo "skerry: nothing was installed or changed on this machine (${target:-no target}, init ${init:-unknown}, ${fetcher:-no download})" >&2
	exit 1
}
refuse() {
	echo "skerry: error: $*" >&2
	exit 2
}
usage() {
	cat <<-'EOF'
		usage: sh install.sh [edge]                  install or upgrade a device, to which SKERRY_JOIN_FILE=- asks for the join string
		       sh install.sh cluster [--in-cluster]  a site's cluster agent; --in-cluster: as a pod of the k3s on this machine
		       sh install.sh cli                     the command line alone

		Everything else is set by variables, such as SKERRY_URL=https://SERVER: the first lines of this script list them, and docs/install.md.
		Uninstalling: skerry-uninstall [edge|cluster|cli] [--purge]
	EOF
}

# ---- settings

init_state() {
	work="" staged="" same="" made_dirs="" changed="" verified="" target="" init="" fetcher="" committed="" version="" gone="" patience="" host_target=""
	beside_k3s="" k3s_yaml=/etc/rancher/k3s/k3s.yaml renewed="" owed=""
}

read_settings() {
	arguments="$*"
	case $*:${SKERRY_K3S:-} in
	uninstall*) refuse "to uninstall: skerry-uninstall [edge|cluster|cli] [--purge], which is beside the programs" ;;
	'cluster --in-cluster:') set_mode in-cluster ;;
	:join | edge:join) set_mode k3s-agent ;;
	*:)
		[ $# -le 1 ] || refuse "arguments $*; wanted at most one of: $modes; or cluster --in-cluster"
		set_mode "${1:-edge}" ;;
	cluster:no) set_mode cluster ;;
	*) refuse "SKERRY_K3S=${SKERRY_K3S:-} with ${*:-edge}; wanted join with edge, no with cluster, or nothing" ;;
	esac
	k3s_data=${K3S_DATA_DIR:-/var/lib/rancher/k3s}
	root=${DESTDIR:-}
	root=${root%/}
	etc=${INSTALL_SKERRY_DIR:-/etc/skerry}
	bin=${INSTALL_SKERRY_BIN_DIR:-}
	url=${SKERRY_URL:-$release_url}
	url=${url%/}
	channel=${SKERRY_CHANNEL:-stable}
	offline=${INSTALL_SKERRY_OFFLINE:-}
	advertise=${SKERRY_ADVERTISE:-}
	node=${SKERRY_NODE:-}
	labels=${SKERRY_LABELS:-}
	wait_seconds=60
	[ "$mode" != in-cluster ] || wait_seconds=300
	wait_seconds=${INSTALL_SKERRY_WAIT:-$wait_seconds}
	key=${SKERRY_RELEASE_KEY:-$release_key}
	skip_enable=$(flag INSTALL_SKERRY_SKIP_ENABLE "${INSTALL_SKERRY_SKIP_ENABLE:-}") || exit 2
	skip_start=$(flag INSTALL_SKERRY_SKIP_START "${INSTALL_SKERRY_SKIP_START:-}") || exit 2
	dry_run=$(flag INSTALL_SKERRY_DRY_RUN "${INSTALL_SKERRY_DRY_RUN:-}") || exit 2
	case $release_url in @*) [ -n "${SKERRY_URL:-}" ] || url="" ;; esac
	read_join
}

check_settings() {
	case $wait_seconds in '' | *[!0-9]*) refuse "INSTALL_SKERRY_WAIT=$wait_seconds; wanted seconds" ;; esac
	case $channel in '' | .* | *[!A-Za-z0-9._-]*) refuse "SKERRY_CHANNEL=$channel; wanted a name such as stable" ;; esac
	case ${SKERRY_VERSION:-} in *[!A-Za-z0-9.+-]* | .*) refuse "SKERRY_VERSION=$SKERRY_VERSION; wanted a version such as 1.2.3" ;; esac
	case $etc in /*) ;; *) refuse "INSTALL_SKERRY_DIR=$etc; wanted an absolute path" ;; esac
	case $bin in /* | '') ;; *) refuse "INSTALL_SKERRY_BIN_DIR=$bin; wanted an absolute path" ;; esac
	case $k3s_data in /*) ;; *) refuse "K3S_DATA_DIR=$k3s_data; wanted an absolute path" ;; esac
	case $etc$bin$root$k3s_data in *[!A-Za-z0-9/._+-]*) refuse "a path has a character besides letters, digits and / . _ + -: $etc $bin $root $k3s_data" ;; esac
	case $advertise in *[!A-Za-z0-9.:,-]*) refuse "SKERRY_ADVERTISE=$advertise; wanted names and addresses with commas" ;; esac
	case $join in *[!A-Za-z0-9._-]*) refuse "SKERRY_JOIN has a character that no join string has; wanted it whole, as \`skerry token create\` prints it" ;; esac
	case $node in [!a-z0-9]* | *[!a-z0-9.-]* | ????????????????????????????????????????????????????????????????*)
		refuse "SKERRY_NODE=$node; wanted at most 63 of a-z, 0-9, . and -, first a letter or digit" ;;
	esac
	case $labels in *[!A-Za-z0-9./_=,-]*) refuse "SKERRY_LABELS=$labels; wanted key=value with commas, of letters, digits and . / _ -" ;; esac
	for label in $(echo "$labels" | tr , ' '); do
		case $label in *=*=* | =*) refuse "SKERRY_LABELS has \"$label\"; wanted key=value" ;; *=*) ;; *) refuse "SKERRY_LABELS has \"$label\"; wanted key=value" ;; esac
	done
}

# read_join takes the join string from the file where the list of processes and sudo's log do not show it.
read_join() {
	join=${SKERRY_JOIN:-}
	from=${SKERRY_JOIN_FILE:-}
	[ -n "$from" ] && [ "$mode" = edge ] || return 0
	[ -z "$join" ] || refuse "SKERRY_JOIN and SKERRY_JOIN_FILE are both set; wanted one of them"
	if [ "$from" = - ]; then
		ask_join
	else
		join=$(cat "$from" 2>&1) || refuse "SKERRY_JOIN_FILE: $join"
	fi
	join=$(printf '%s' "$join" | tr -d ' \t\r\n')
	[ -n "$join" ] || refuse "SKERRY_JOIN_FILE=$from holds no join string; wanted it as \`skerry token create\` prints it"
}
# ask_join asks at the terminal: the script itself may come from the standard input.
ask_join() {
	(: </dev/tty) 2>/dev/null || refuse "SKERRY_JOIN_FILE=- asks at the terminal, and there is none; wanted a file"
	trap 'stty echo </dev/tty 2>/dev/null; exit 130' INT TERM HUP
	printf 'skerry: join string (it is not shown): ' >/dev/tty
	stty -echo </dev/tty 2>/dev/null || true
	IFS= read -r join </dev/tty || true
	stty echo </dev/tty 2>/dev/null || true
	echo >/dev/tty
}

flag() {
	case $2 in
	'' | 0 | false) echo "" ;;
	1 | true) echo 1 ;;
	*) refuse "$1=$2; wanted 1 or nothing" ;;
	esac
}

# ---- the machine

detect_system() {
	[ "$(uname -s)" = Linux ] || refuse "this is $(uname -s); Skerry runs on Linux"
	target=${INSTALL_SKERRY_TARGET:-}
	if [ -n "$target" ]; then # what runs here is asked for, all the same: the verifier does
		host_target=$(detect_target >/dev/null 2>&1 && echo "$target") || host_target=""
	else
		detect_target
		host_target=$target
	fi
	case $target in
	linux-amd64 | linux-arm64 | linux-armv7 | linux-armv6 | linux-riscv64 | linux-mipsle | linux-386) ;;
	*) refuse "INSTALL_SKERRY_TARGET=$target; wanted linux-amd64, -arm64, -armv7, -armv6, -riscv64, -mipsle or -386" ;;
	esac
	init=${INSTALL_SKERRY_INIT:-}
	[ -n "$init" ] || detect_init
	case $init in systemd | openrc | procd | none) ;; *) refuse "INSTALL_SKERRY_INIT=$init; wanted systemd, openrc, procd or none" ;; esac
	if [ -z "$bin" ]; then
		bin=/usr/local/bin
		[ "$init" != procd ] || bin=/usr/bin
	fi
	libc=glibc
	for f in /lib/ld-musl-*; do [ ! -e "$f" ] || libc=musl; done
	info "this is $target with $libc (the programs are static: either will do), init: $init"
}

# elf_byte prints whether the byte of /bin/sh's header at $1 is $2 (in octal): class at 4 (1: 32 bits), byte order at 5 (1: little).
elf_byte() { [ "$(dd if=/bin/sh bs=1 skip="$1" count=1 2>/dev/null)" = "$(printf '%b' "\\0$2")" ]; }
cpu_has() { grep -qiE "^(flags|features)[^:]*:.*[[:space:]]($1)([[:space:]]|\$)" /proc/cpuinfo 2>/dev/null; }

detect_target() {
	machine=$(uname -m)
	bits=64
	if elf_byte 4 001; then bits=32; fi
	case $machine:$bits in
	x86_64:64 | amd64:64) target=linux-amd64 ;;
	aarch64:64 | arm64:64) target=linux-arm64 ;;
	riscv64:64) target=linux-riscv64 ;;
	x86_64:32 | amd64:32) target=linux-386 && info "32-bit userland on a 64-bit kernel: the 32-bit programs" ;;
	aarch64:32 | arm64:32) target=linux-armv7 && info "32-bit userland on a 64-bit kernel: the 32-bit programs" ;;
	armv7*:* | armv8*:*)
		target=linux-armv7
		if [ -r /proc/cpuinfo ] && ! cpu_has 'vfpv3[a-z0-9]*|vfpv4|asimd'; then
			target=linux-armv6
			cpu_has 'vfp' || refuse "this processor ($machine) has no floating point unit (VFP), without which nothing is built for ARM"
		fi ;;
	armv6*:*)
		target=linux-armv6
		! [ -r /proc/cpuinfo ] || cpu_has 'vfp[a-z0-9]*' || refuse "this processor ($machine) has no floating point unit (VFP), without which nothing is built for ARM" ;;
	i[3456]86:*)
		target=linux-386
		! [ -r /proc/cpuinfo ] || cpu_has sse2 || refuse "this processor ($machine) has no SSE2, without which nothing is built for it" ;;
	mips*:*)
		elf_byte 5 001 || refuse "this is MIPS with big-endian byte order; only little-endian (mipsle) is built"
		[ "$bits" = 32 ] || refuse "this is a 64-bit MIPS userland; only 32-bit (mipsle) is built"
		target=linux-mipsle ;;
	*) refuse "no programs are built for $machine; wanted x86_64, aarch64, armv7, armv6, riscv64, mipsle or i686" ;;
	esac
}

detect_init() {
	init=none
	if [ -n "$root" ]; then # an image: what is in it
		if [ -x "$root/sbin/procd" ]; then init=procd
		elif [ -x "$root/sbin/openrc-run" ]; then init=openrc
		elif [ -d "$root/lib/systemd/system" ] || [ -d "$root/usr/lib/systemd/system" ]; then init=systemd
		fi
	elif [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then init=systemd
	elif [ -x /sbin/procd ]; then init=procd
	elif command -v rc-service >/dev/null 2>&1 && command -v rc-update >/dev/null 2>&1; then init=openrc
	fi
}

refuse_early() {
	case $mode in
	k3s-agent) refuse_join && return ;;
	in-cluster) refuse_in_cluster ;;
	cluster) if [ "${SKERRY_K3S:-}" != no ] && [ -z "$root" ] && [ -e "$k3s_yaml" ]; then refuse_beside_k3s; fi ;;
	esac
	case $key in
	RW??????????????????????????????????????????????????????) ;;
	@*) refuse "this install.sh holds no release key: it is the template. Take the one of a release, or set SKERRY_RELEASE_KEY" ;;
	*) refuse "release key $key; wanted 56 characters that begin with RW" ;;
	esac
	refuse_without_root
	warn_of_package
	[ -z "$root" ] || skip_enable=1 skip_start=1
	for tool in tar gzip sed grep awk mktemp dd cut; do
		command -v "$tool" >/dev/null 2>&1 || refuse "$tool is not on this machine"
	done
	[ -n "$(hasher)" ] || refuse "none of sha256sum, shasum, openssl is on this machine: nothing could be checked"
	if [ -n "$offline" ]; then
		[ -e "$offline" ] || refuse "INSTALL_SKERRY_OFFLINE=$offline: there is no such file or directory"
		case $offline in *.zst) command -v zstd >/dev/null 2>&1 || refuse "$offline needs zstd, which is not here; unpack it elsewhere and give the directory" ;; esac
		fetcher="offline"
	else
		case $url in
		http://?* | https://?*) ;;
		'') refuse "no release server; set SKERRY_URL to where this script came from, without /install.sh" ;;
		*) refuse "SKERRY_URL=$url; wanted http:// or https://" ;;
		esac
		if command -v curl >/dev/null 2>&1; then fetcher=curl
		elif command -v wget >/dev/null 2>&1; then
			fetcher=wget
			! wget --version 2>/dev/null | grep -q GNU || patience="-nv -T 60"
			[ -n "$patience" ] || [ -z "${SKERRY_CA_FILE:-}" ] || refuse "SKERRY_CA_FILE is set, and busybox's wget takes none; install curl or GNU wget"
		else refuse "neither curl nor wget is on this machine; INSTALL_SKERRY_OFFLINE installs from a bundle"
		fi
	fi
}

# warn_of_package says so when there are two of it: of the service files the one that is written here is what counts.
warn_of_package() {
	[ -n "$service" ] && [ "$bin" != /usr/bin ] && [ -e "$root/usr/bin/$service" ] || return 0
	warn "/usr/bin/$service is there, as of a package; what this installs hides it. Remove the package, or do not go on with this"
}

refuse_without_root() {
	[ -z "$root" ] && [ "$(id -u)" != 0 ] || return 0
	[ "$mode" != cli ] || [ ! -w "$(nearest "$bin")" ] || return 0 # there it does not
	refuse "installing to $bin takes root: … | sudo ${url:+SKERRY_URL=$url }sh${arguments:+ -s - $arguments}; sudo drops settings, so all of them go where SKERRY_URL is there"
}

hasher() {
	for tool in sha256sum shasum openssl; do
		if command -v "$tool" >/dev/null 2>&1; then echo "$tool" && return; fi
	done
}
sha256() {
	case $(hasher) in
	sha256sum) sha256sum <"$1" | cut -d' ' -f1 ;;
	shasum) shasum -a 256 <"$1" | cut -d' ' -f1 ;;
	openssl) openssl dgst -sha256 <"$1" | sed 's/.*= *//' ;;
	esac
}
bytes() { wc -c <"$1" | tr -d ' '; }

# ---- fetching

# get puts the file $1 of the release server at $2. Its size is $3, if that is known; else 16 MiB is the most. What was cut off is resumed.
get() {
	most=${3:-16777216}
	case $fetcher in
	offline) get_offline "$1" "$2" ;;
	*)
		for try in 1 2 3 4 5; do
			code=0
			download "$url/$1" "$2" || code=$?
			gone=""
			[ "$code" != 2 ] || gone=1
			if [ "$code" = 0 ]; then # whole, by the server's word
				[ -z "${3:-}" ] || [ "$(bytes "$2")" = "$3" ] || fail "$url/$1 has $(bytes "$2") bytes; wanted $3"
				return 0
			fi
			[ "$gone" = "" ] || break
			[ ! -e "$2" ] || [ "$(bytes "$2")" -le "$most" ] || fail "$url/$1 has more than $most bytes"
			[ "$try" = 5 ] || sleep "$try"
		done
		[ -s "$2" ] || fail "cannot fetch $url/$1: $(tail -n 1 "$work/fetch.log" 2>/dev/null) ($fetcher); $(doubt "$1")"
		fail "$url/$1: the connection breaks after $(bytes "$2") bytes${3:+ of $3}, five times" ;;
	esac
}

# doubt is what may be wrong with the request for the file $1.
doubt() {
	case $1 in
	*/manifest.json)
		if [ -n "${SKERRY_VERSION:-}" ] && grep -q ' 404' "$work/fetch.log" 2>/dev/null; then
			echo "is there a version $version?"
			return
		fi ;;
	esac
	echo "is SKERRY_URL right, and does a proxy let it pass (http_proxy, https_proxy)?"
}

# download goes on with what is there of $2, and takes no more than $most and a little. gone: trying again does not help.
download() (
	ulimit -f $((most / 512 + 2)) 2>/dev/null || true # of 512 bytes; to bash of 1024
	fetch "$@"
)
fetch() {
	case $fetcher in
	curl) curl -fsSL --connect-timeout 20 --speed-time 60 --speed-limit 100 ${SKERRY_CA_FILE:+--cacert "$SKERRY_CA_FILE"} -C - -o "$2" "$1" 2>"$work/fetch.log" && return 0 ;;
	wget) # shellcheck disable=SC2086 # none or two words; busybox's own ends with a fault when it is given -T
		wget ${patience:--q} ${SKERRY_CA_FILE:+--ca-certificate="$SKERRY_CA_FILE"} -c -O "$2" "$1" 2>"$work/fetch.log" && return 0 ;;
	esac
	code=$?
	grep -qE '(error:|ERROR|HTTP/1\.[01]) (429|5[0-9][0-9])' "$work/fetch.log" && return 1 # passing
	case $fetcher:$code in
	curl:22 | curl:60 | curl:77 | wget:8 | wget:5) return 2 ;; # the server said no; or it is not to be trusted
	curl:33) rm -f "$2" ;;                                      # a server that cannot resume
	esac
	return 1
}

get_offline() {
	if [ -d "$offline" ]; then
		[ -f "$offline/$1" ] || fail "$offline has no $1"
		cp "$offline/$1" "$2" || fail "cannot copy $offline/$1 to $2; is the disk full?"
		return
	fi
	mkdir -p "$work/bundle"
	case $offline in
	*.zst) zstd -dcq "$offline" | tar -xf - -C "$work/bundle" "$1" ;;
	*.gz | *.tgz) gzip -dc "$offline" | tar -xf - -C "$work/bundle" "$1" ;;
	*) tar -xf "$offline" -C "$work/bundle" "$1" ;;
	esac 2>"$work/tar.log" || true
	[ -f "$work/bundle/$1" ] || fail "$offline has no $1: $(tail -n 1 "$work/tar.log")"
	mv "$work/bundle/$1" "$2"
}

# older tells whether version $1 is older than $2, as semantic versions are ordered.
older() {
	awk -v a="$1" -v b="$2" '
	function number(s) { return s ~ /^[0-9]+$/ }
	function order(x, y) { return x + 0 < y + 0 ? -1 : x + 0 > y + 0 }
	function word(x, y) { return x "" < y "" ? -1 : x "" > y "" }
	function cmp(x, y,   i, c, n, m, p, q, xs, ys, xp, yp) {
		sub(/\+.*/, "", x); sub(/\+.*/, "", y)
		xp = index(x, "-") ? substr(x, index(x, "-") + 1) : ""; yp = index(y, "-") ? substr(y, index(y, "-") + 1) : ""
		sub(/-.*/, "", x); sub(/-.*/, "", y)
		split(x, xs, "."); split(y, ys, ".")
		for (i = 1; i <= 3; i++) if ((c = order(xs[i], ys[i])) != 0) return c
		if (xp == "" || yp == "") return (xp == "") - (yp == "")
		n = split(xp, xs, "."); m = split(yp, ys, ".")
		for (i = 1; i <= n && i <= m; i++) {
			p = number(xs[i]); q = number(ys[i])
			c = p && q ? order(xs[i], ys[i]) : p != q ? q - p : word(xs[i], ys[i])
			if (c != 0) return c
		}
		return n < m ? -1 : n > m
	}
	BEGIN { exit cmp(a, b) < 0 ? 0 : 1 }'
}

choose_version() {
	version=${SKERRY_VERSION:-}
	version=${version#v}
	if [ -z "$version" ]; then
		get "channel/$channel" "$work/channel"
		version=$(head -n 1 "$work/channel" | tr -d '\r')
		case $version in '' | .* | *[!A-Za-z0-9.+-]*) fail "channel $channel names the version \"$version\"; wanted one such as 1.2.3" ;; esac
		case $release_version in
		@*) ;;
		*) ! older "$version" "$release_version" || fail "channel $channel is at $version, and this script is of $release_version: something is held back. SKERRY_VERSION=$version takes it all the same" ;;
		esac
	fi
}

# ---- checking

fetch_manifest() {
	manifest=$work/manifest.json
	get "$version/manifest.json" "$manifest"
	get "$version/manifest.json.minisig" "$manifest.minisig"
	[ "$(bytes "$manifest")" -le 1048576 ] || fail "the manifest has $(bytes "$manifest") bytes; wanted at most 1048576"
	verify_signature
	grep -q '^"format":"skerry-release/1",$' "$manifest" || fail "the manifest is of another format; take a newer install.sh"
	grep -qF "\"version\":\"$version\"," "$manifest" || fail "the manifest that is signed is not that of version $version"
	info "version $version, signature checked with $verified"
}

# verify_signature tries the tools in turn. One that is there and works decides.
verify_signature() {
	for tool in ${INSTALL_SKERRY_VERIFIER:-openssl minisign signify-openbsd signify usign skerry-verify}; do
		case $tool in
		openssl) openssl_works || continue ;;
		skerry-verify) fetch_verifier ;;
		*) command -v "$tool" >/dev/null 2>&1 || continue ;;
		esac
		verified=$tool
		"verify_with_$(echo "$tool" | tr - _)" >"$work/verify.log" 2>&1 ||
			fail "the signature of the manifest is not that of the release key ($tool says: $(tail -n 1 "$work/verify.log"))"
		return 0
	done
	fail "nothing here can check a signature: none of ${INSTALL_SKERRY_VERIFIER:-openssl 3, minisign, signify, usign} works"
}

# The second line is base64 of Ed, the key's id, and the signature itself: 2, 8 and 64 bytes.
verify_with_openssl() {
	sed -n 2p "$manifest.minisig" | openssl base64 -d -A | tail -c 64 >"$work/sig.raw"
	{ printf '\060\052\060\005\006\003\053\145\160\003\041\000' && echo "$key" | openssl base64 -d -A | tail -c 32; } >"$work/key.der"
	openssl_verify "$work/key.der" "$work/sig.raw" "$manifest"
}
openssl_verify() { openssl pkeyutl -verify -pubin -keyform DER -inkey "$1" -sigfile "$2" -rawin -in "$3"; }

# openssl before 3.0 cannot. RFC 8032, test 2, tells: it is good, and with another message it is not.
openssl_works() {
	command -v openssl >/dev/null 2>&1 || return 1
	{ printf '\060\052\060\005\006\003\053\145\160\003\041\000' && echo PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw= | openssl base64 -d -A; } >"$work/test.der"
	echo kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA== | openssl base64 -d -A >"$work/test.sig"
	printf r >"$work/test.msg"
	openssl_verify "$work/test.der" "$work/test.sig" "$work/test.msg" >/dev/null 2>&1 || return 1
	printf s >"$work/test.msg"
	! openssl_verify "$work/test.der" "$work/test.sig" "$work/test.msg" >/dev/null 2>&1
}
public_key_file() { printf 'untrusted comment: skerry release key\n%s\n' "$key" >"$work/key.pub"; }
verify_with_minisign() { minisign -V -q -P "$key" -m "$manifest" -x "$manifest.minisig"; }
verify_with_signify() { public_key_file && signify -V -q -p "$work/key.pub" -m "$manifest" -x "$manifest.minisig"; }
verify_with_signify_openbsd() { public_key_file && signify-openbsd -V -q -p "$work/key.pub" -m "$manifest" -x "$manifest.minisig"; }
verify_with_usign() { public_key_file && usign -V -q -p "$work/key.pub" -m "$manifest" -x "$manifest.minisig"; }
verify_with_skerry_verify() { "$work/skerry-verify" "$key" "$manifest" "$manifest.minisig"; }

# fetch_verifier takes the one whose hash is in this script, of this script's release.
fetch_verifier() {
	pin=""
	for entry in $verifier_pins; do
		case $entry in "$host_target="*) pin=${entry#*=} ;; esac
	done
	[ -n "$pin" ] || fail "no openssl 3, minisign, signify or usign is here, and this script knows no verifier for $host_target"
	get "$release_version/skerry-verify_$host_target" "$work/skerry-verify"
	[ "$(sha256 "$work/skerry-verify")" = "$pin" ] || fail "the verifier skerry-verify_$host_target has another hash than this script says"
	chmod 0755 "$work/skerry-verify"
	"$work/skerry-verify" >/dev/null 2>&1 || [ $? = 2 ] || fail "the verifier skerry-verify_$host_target does not run here; is ${TMPDIR:-/tmp} mounted noexec? (TMPDIR)"
}

# field prints the value of a key in the manifest's line of a file.
line_of() { grep -F "{\"name\":\"$1\"," "$manifest" | head -n 1; }
field() { line_of "$1" | sed -n "s/.*\"$2\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# get_file fetches a file that the manifest names, and checks it.
get_file() {
	[ -n "$(line_of "$1")" ] || fail "release $version has no $1"
	get "$version/$1" "$work/$1" "$(field "$1" size)"
	[ "$(sha256 "$work/$1")" = "$(field "$1" sha256)" ] || fail "$1 is not what the manifest says: its SHA-256 is $(sha256 "$work/$1"); wanted $(field "$1" sha256)"
}

# get_program fetches the archive of $1 and unpacks it; the one that xz made is a quarter smaller, where it is there and can be unpacked here.
get_program() {
	mkdir -p "$work/$1"
	small=${archive%.gz}.xz
	if [ -z "$offline" ] && command -v xz >/dev/null 2>&1 && [ -n "$(line_of "$small")" ]; then
		if (get_file "$small") 2>"$work/log.get"; then
			unpack "$small" "$1" && archive=$small && return
			info "xz cannot unpack $small here ($(cat "$work/log.tar" "$work/log.xz" | tail -n 1)); $archive is taken"
		else
			rm -f "$work/$small" # it may be large, and in memory
			info "$(sed -n 's/^skerry: error: //p' "$work/log.get" | tail -n 1); $archive is taken"
		fi
	fi
	get_file "$archive"
	unpack "$archive" "$1" || fail "cannot unpack $archive in $work: $(cat "$work/log.gz" "$work/log.tar" | tail -n 1)"
}

# unpack succeeds when both sides of the pipe do; the archive is gone then and else.
unpack() {
	rm -f "$work/unpacked"
	case $1 in
	*.xz) { xz -dc "$work/$1" 2>"$work/log.xz" && : >"$work/unpacked"; } ;;
	*) { gzip -dc "$work/$1" 2>"$work/log.gz" && : >"$work/unpacked"; } ;;
	esac | tar -xf - -C "$work/$2" 2>"$work/log.tar"
	extracted=$?
	rm -f "$work/$1"
	[ "$extracted" = 0 ] && [ -e "$work/unpacked" ]
}

# sweep removes what a run that was killed has left beside files: it takes the room of a program.
sweep() {
	[ -z "$dry_run" ] || return 0
	for dir in "$root$bin" "$root$etc" "$root/etc/systemd/system" "$root/etc/systemd/system/$service.service.d" "$root/etc/init.d" "$root/etc/logrotate.d" \
		"$root/lib/upgrade/keep.d" "$root$k3s_data/agent/images" "$root$k3s_data/server/manifests"; do
		for temp in "$dir"/.*.skerry-new.*; do
			[ ! -f "$temp" ] || [ -d "/proc/${temp##*.}" ] || rm -f "$temp" # by its number the run goes on
		done
	done
}

# ---- preparing: everything is written beside where it belongs, and nothing is visible yet

prepare_program() {
	variant=""
	[ "$1" != skerry-edge ] || choose_variant
	archive=$1_${version}_$target${variant:+_$variant}.tar.gz
	[ -n "$(line_of "$archive")" ] || fail "release $version has no $1 for $target ($archive)"
	program_sha=$(field "$archive" program_sha256)
	program_size=$(field "$archive" program_size)
	again=""
	if [ -x "$root$bin/$1" ] && [ "$(sha256 "$root$bin/$1")" = "$program_sha" ] && extras_present "$1"; then
		if [ -z "${SKERRY_VERSION:-}" ] || ! updated_itself "$1"; then
			info "$1 $version is there already"
			[ "$1" != "$service" ] || fresh_program=$root$bin/$1
			return
		fi
		again=again # a program that was written anew counts, and what it was updated to does no longer
	fi
	not_backwards "$1"
	room_for "$1"
	get_program "$1"
	[ "$(sha256 "$work/$1/$1")" = "$program_sha" ] || fail "$1 in $archive is not what the manifest says"
	if runs_here; then
		{ "$work/$1/$1" version >"$work/run.log" 2>&1 && grep -q "^$1 " "$work/run.log"; } ||
			fail "$1 for $target does not run on this machine: $(tail -n 1 "$work/run.log")$(run_hint)"
	fi
	[ "$1" != "$service" ] || fresh_program=$work/$1/$1 renewed=1
	stage "$work/$1/$1" "$bin/$1" 0755 "$again"
	prepare_extras "$1"
}

# runs_here tells whether the programs have to run on this machine: an image may be for another one.
runs_here() { [ -z "$root" ] || [ "$target" = "$host_target" ]; }

# run_hint is why nothing may run in the directory of temporary files.
run_hint() {
	printf '#!/bin/sh\n' >"$work/probe" && chmod 0755 "$work/probe"
	"$work/probe" 2>/dev/null || echo "; nothing runs in $work: set TMPDIR to a directory that is not mounted noexec"
}

# choose_variant takes full where there is room for it.
choose_variant() {
	variant=${INSTALL_SKERRY_VARIANT:-}
	case $variant in
	lite | full) info "skerry-edge $variant, as INSTALL_SKERRY_VARIANT says" && return ;;
	'') ;;
	*) fail "INSTALL_SKERRY_VARIANT=$variant; wanted lite or full" ;;
	esac
	variant=lite
	if [ -n "$root" ]; then
		info "skerry-edge lite: nothing is known of the machine that this is for; INSTALL_SKERRY_VARIANT=full takes the other"
		return
	fi
	memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo 2>/dev/null) || memory=0
	flash=$(free_kib "$root$bin")
	flash=$((flash / 1024))
	if [ -z "$(line_of "skerry-edge_${version}_${target}_full.tar.gz")" ]; then
		info "skerry-edge lite: this release has no other for $target"
	elif [ "${memory:-0}" -lt 256 ]; then
		info "skerry-edge lite: ${memory:-0} MiB of memory, and full wants 256"
	elif [ "$flash" -lt 64 ]; then
		info "skerry-edge lite: $flash MiB are free for $bin, and full wants 64"
	else
		variant=full
		info "skerry-edge full: $memory MiB of memory and $flash MiB free for $bin (256 and 64 are enough)"
	fi
}

# version_that_runs asks the node agent: it may have updated itself.
version_that_runs() {
	[ -n "$root" ] || "$bin/skerry-edge" status --config "$etc/edge.yaml" -o json 2>/dev/null |
		sed -n 's/^  "version": "\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][^"]*\)".*/\1/p' | head -n 1
}

# updated_itself tells that the node agent runs another version than this one, or, when it does not answer, may do so.
updated_itself() {
	[ "$1" = skerry-edge ] && [ -z "$root" ] || return 1
	runs=$(version_that_runs)
	[ -z "$runs" ] || { [ "$runs" != "$version" ]; return; }
	slots=$(sed -n '/^update:/,/^[a-z]/s/^  dir: *"\{0,1\}\([^"# ]*\).*/\1/p' "$etc/edge.yaml" 2>/dev/null | head -n 1)
	: "${slots:=$(state_dir)/update}"
	[ -e "$slots/state.0" ] || [ -e "$slots/state.1" ]
}

not_backwards() {
	[ -x "$root$bin/$1" ] || return 0
	have=$("$root$bin/$1" version 2>/dev/null | awk '{ print $2; exit }') || return 0
	runs=""
	[ "$1" != skerry-edge ] || runs=$(version_that_runs)
	case $runs in [0-9]*.[0-9]*.[0-9]*) older "$runs" "$have" || have=$runs ;; esac # an agent that has updated itself
	case $have in [0-9]*.[0-9]*.[0-9]*) ;; *) return 0 ;; esac
	if older "$version" "$have"; then
		[ -n "${SKERRY_VERSION:-}" ] || fail "$1 $have is there, and channel $channel is at $version, which is older; SKERRY_VERSION=$version takes it all the same"
		warn "$1 goes back from $have to $version"
	fi
}

# nearest is the directory $1, or the one above it that is there.
nearest() {
	at=$1
	while [ ! -d "$at" ]; do at=$(dirname "$at"); done
	echo "$at"
}
# free_kib is what is free where the directory $1 is or would be.
free_kib() {
	df -Pk "$(nearest "$1")" 2>/dev/null | awk 'NR == 2 { print $4 }'
}
room_for() {
	need=$((program_size / 1024 + 256))
	free=$(free_kib "$root$bin")
	[ -z "$free" ] || [ "$free" -ge "$need" ] || fail "$1 needs $need KiB in $bin; $free are free"
}

service_file() {
	case $init in
	systemd) echo "/etc/systemd/system/$service.service" ;;
	openrc | procd) echo "/etc/init.d/$service" ;;
	esac
}
# extras_present tells whether the service's files are there and start what is installed, with the configuration that is meant.
extras_present() {
	[ "$1" = "$service" ] && [ "$init" != none ] || return 0
	grep -qsF "$bin/$service" "$root$(service_file)" || return 1
	if [ "$etc" = /etc/skerry ]; then
		! grep -qs "SKERRY_[A-Z]*_CONFIG=/" "$root$(service_file)" || return 1
	else
		grep -qsF "_CONFIG=$etc/$config" "$root$(service_file)" || return 1
	fi
	[ "$init" != openrc ] || [ -s "$root/etc/logrotate.d/$service" ]
}
# prepare_uninstaller compares it with the manifest: there may be one of another version, beside a program that is up to date.
prepare_uninstaller() {
	at=$root$bin/skerry-uninstall
	if [ -e "$at" ] && [ "$(sha256 "$at")" = "$(field uninstall.sh sha256)" ]; then
		same="$same 0755 $at"
		return
	fi
	get_file uninstall.sh
	stage "$work/uninstall.sh" "$bin/skerry-uninstall" 0755 beside
}
prepare_extras() {
	[ "$1" = "$service" ] || return 0
	[ "$init" != none ] || return 0
	mode_bits=0755
	from=$work/$1/$init/$service
	[ "$init" != systemd ] || mode_bits=0644 from=$from.service
	sed "s|/usr/local/bin/|$bin/|g" "$from" >"$work/service"
	[ "$etc" = /etc/skerry ] || name_configuration
	stage "$work/service" "$(service_file)" "$mode_bits"
	if [ "$init" = openrc ]; then
		stage "$work/$1/logrotate/$service" "/etc/logrotate.d/$service" 0644
	fi
}

# name_configuration tells the service where its configuration is, when that is not where the program looks by itself.
name_configuration() {
	variable=SKERRY_$(echo "$mode" | tr '[:lower:]' '[:upper:]')_CONFIG=$etc/$config
	case $init in
	systemd) after='^\[Service\]$' line="Environment=$variable" ;;
	openrc) after='^supervisor=' line="export $variable" ;;
	procd) after='^USE_PROCD=' line="export $variable" ;;
	esac
	sed "/$after/a\\
$line" "$work/service" >"$work/service.named"
	if [ "$init" = procd ]; then
		sed "/procd_set_param command/a\\
	procd_set_param env $variable
s|/etc/skerry/|$etc/|g" "$work/service.named" >"$work/service"
	else
		mv "$work/service.named" "$work/service"
	fi
}

# in_memory tells whether what is below the directory $1 of this machine is gone after a reboot.
in_memory() {
	[ -z "$root" ] || return 1
	case $(df -Pk "$(nearest "$1")" 2>/dev/null | awk 'NR == 2 { print $1 }') in tmpfs | ramfs) return 0 ;; esac
	return 1
}

# keep_state has the state lie where a reboot leaves it: on OpenWrt /var is memory, and what an upgrade of the system keeps is listed.
keep_state() {
	if [ "$init" = procd ] || { [ "$init" != systemd ] && in_memory /var/lib; }; then
		set_line '^dir:.*' "dir: $etc/$service"
		[ -e "$root$etc/$config" ] || info "state is kept in $etc/$service, as /var is memory here"
	elif in_memory /var/lib; then
		warn "/var/lib is in memory: after a reboot this machine has to join again"
	fi
	[ "$init" != procd ] || {
		keep=/lib/upgrade/keep.d/$service # itself, too: there is an upgrade after the next. Without the links the new system would not start it
		printf '%s\n' "$etc/" "$bin/skerry-uninstall" "$(service_file)" "/etc/rc.d/S95$service" "/etc/rc.d/K05$service" "$keep" >"$work/keep"
		for program in $programs; do echo "$bin/$program" >>"$work/keep"; done
		stage "$work/keep" "$keep" 0644
	}
}

# state_dir is where the service has its state, as its configuration says.
state_dir() {
	dir=$(sed -n 's/^dir: *"\{0,1\}\([^"# ]*\).*/\1/p' "$root$etc/$config" 2>/dev/null | head -n 1)
	echo "${dir:-/var/lib/$service}"
}

prepare_configuration() {
	[ -n "$config" ] || return 0
	if runs_here; then
		"$fresh_program" config --defaults >"$work/config" 2>"$work/run.log" || fail "$service prints no configuration: $(tail -n 1 "$work/run.log")"
	else
		echo "# Settings: $service config --defaults" >"$work/config"
	fi
	there=$root$etc/$config
	untouched=""
	if as_written "$there"; then
		untouched=1
		carry
		cp "$work/config" "$work/config.carried"
		mark "$work/config.carried"
	fi
	keep_state
	set_given
	mark "$work/config"
	if [ -n "$untouched" ]; then
		in_force=$work/config.carried
	elif [ -e "$there" ]; then
		in_force=$there
	else
		in_force=$work/config
	fi
	judge_configuration
	[ "$mode" != edge ] || prepare_join
	[ "$in_force" = "$there" ] || stage "$in_force" "$etc/$config" 0644
	if ! cmp_files "$work/config" "$in_force" && { [ ! -e "$there.new" ] || ! cmp_files "$work/config" "$there.new"; }; then
		stage "$work/config" "$etc/$config.new" 0644 beside
		info "$etc/$config stays as it is${untouched:+, in what earlier runs were told}; $config.new is how this version would have it"
	fi
}

# A configuration that nobody has changed since this script wrote it may be written anew: its first line has the hash of the others.
written='# As install.sh wrote it: as long as nothing is changed, an upgrade brings the new defaults. SHA-256 of the other lines: '
as_written() {
	[ -f "$1" ] || return 1
	sed 1d "$1" >"$work/others"
	[ "$(head -n 1 "$1")" = "$written$(sha256 "$work/others")" ]
}
mark() {
	{ echo "$written$(sha256 "$1")" && cat "$1"; } >"$1.marked" && mv "$1.marked" "$1"
}
# carry takes over what earlier runs were told: nobody has to say it at an upgrade.
carry() {
	for kept in node labels join dir advertise mode '  kubeconfig'; do
		line=$(grep "^$kept:" "$there" | head -n 1) || line=""
		[ -z "$line" ] || { runs_here && ! grep -q "^$kept:" "$work/config"; } || set_line "^$kept:.*" "$line"
	done
}
# set_given sets what this run was told.
set_given() {
	case $mode in
	edge)
		set_line '^join:.*' "join: \"@$etc/edge.join\""
		[ -z "$node" ] || set_line '^node:.*' "node: \"$node\""
		[ -z "$labels" ] || set_line '^labels:.*' "labels: [$(quoted "$labels")]" ;;
	cluster)
		[ -z "$advertise" ] || set_line '^advertise:.*' "advertise: [$(quoted "$advertise")]"
		if [ -n "$beside_k3s" ]; then
			set_line '^mode:.*' 'mode: kube'
			set_line '^  kubeconfig:.*' "  kubeconfig: $(kubeconfig_of_service)"
		fi ;;
	esac
}
# takes asks a new program something. Exit code 3 is of a configuration that it takes, though something that it names is missing as yet.
takes() {
	taken=0
	"$fresh_program" "$@" >"$work/run.log" 2>&1 || taken=$?
	[ "$taken" -eq 0 ] || [ "$taken" -eq 3 ]
}
# judge_configuration asks a new program whether it takes the configuration: one that does not would be started in vain, in place of one that does.
judge_configuration() {
	runs_here || return 0
	[ "$in_force" != "$there" ] || [ -n "$renewed" ] || return 0
	takes config --config "$in_force" ||
		fail "$service $version does not take $etc/$config, so that nothing is replaced: $(judgement)"
	[ "$taken" -ne 3 ] || warn "$service takes $etc/$config, but: $(judgement)"
}
judgement() { sed "s|$work/config[.a-z]*|$etc/$config|" "$work/run.log" | tail -n 3 | tr '\n' ' '; }
prepare_join() {
	[ -n "$join" ] || return 0
	(umask 077 && printf '%s\n' "$join" >"$work/join")
	judge_join
	stage "$work/join" "$etc/edge.join" 0600
}
# judge_join asks the program about a join string that is new here: whether it is whole, and of the cluster in which this device is. One that
# does not look at it, as older ones do not, says nothing.
judge_join() {
	runs_here || return 0
	[ ! -e "$root$etc/edge.join" ] || ! cmp_files "$work/join" "$root$etc/edge.join" || return 0
	set -- config --config "$in_force" --join "@$work/join"
	[ -z "$root" ] || set -- "$@" --set "dir=$work/none" # who this machine is does not matter
	takes "$@" || fail "the join string is not taken: $(tail -n 2 "$work/run.log" | tr '\n' ' ')"
}
quoted() { echo "$1" | sed 's/[^,][^,]*/"&"/g'; }
# set_line replaces a line of the configuration, or adds it.
set_line() {
	if grep -q "$1" "$work/config"; then
		sed "s|$1|$(echo "$2" | sed 's/[&|\\]/\\&/g')|" "$work/config" >"$work/config.set" && mv "$work/config.set" "$work/config"
	else
		echo "$2" >>"$work/config"
	fi
}
cmp_files() { [ "$(sha256 "$1")" = "$(sha256 "$2")" ]; }

# stage writes $1 beside $2, with mode $3, unless that is there as it should be. $4: beside, when the service does not care; again, to
# write it in any case.
stage() {
	if [ "${4:-}" != again ] && [ -e "$root$2" ] && cmp_files "$1" "$root$2"; then
		same="$same $3 $root$2"
		return 0
	fi
	if [ -n "$dry_run" ]; then
		info "would write $root$2"
		return 0
	fi
	make_dir "$(dirname "$root$2")"
	temp=$(dirname "$root$2")/.$(basename "$2").skerry-new.$$ # its own: another run may be at work
	staged="$staged $temp"
	{ rm -f "$temp" && (umask 077 && cp "$1" "$temp") && chmod "$3" "$temp" && cmp_files "$1" "$temp"; } 2>"$work/stage.log" ||
		fail "cannot write $root$2: $(tail -n 1 "$work/stage.log")"
	[ "${4:-}" = beside ] || changed=1
}
make_dir() {
	[ ! -d "$1" ] || return 0
	make_dir "$(dirname "$1")"
	mkdir "$1" 2>"$work/stage.log" || fail "cannot make $1: $(tail -n 1 "$work/stage.log")"
	made_dirs="$1 $made_dirs"
}

# put_in_place renames, within each directory, what was written: the program of the service last, so that a run after one that ended here,
# with the power, does it all again. From here on there is no way back, and little that can fail.
put_in_place() {
	if [ -n "$dry_run" ]; then
		info "dry run: nothing was written"
		exit 0
	fi
	trap '' INT TERM HUP # it takes no time, and half of it would be there
	owe_restart
	sync
	last=""
	for temp in $staged; do
		case $temp in "$root$bin/.$service.skerry-new."*) last=$temp ;; *) rename_staged "$temp" ;; esac
	done
	if [ -n "$last" ]; then
		sync
		rename_staged "$last"
	fi
	committed=1
	# shellcheck disable=SC2086 # a list of words
	set -- $same # what was there already has the mode that it should have
	while [ $# -gt 0 ]; do
		chmod "$1" "$2" || warn "cannot set the mode of $2"
		shift 2
	done
	trap_signals
}
rename_staged() {
	name=$(basename "$1")
	name=${name#.}
	to=$(dirname "$1")/${name%.skerry-new."$$"}
	if ! mv -f "$1" "$to"; then
		echo "skerry: error: cannot rename $1 to $to; what is named above is in place, the rest is as it was. Run this again" >&2
		exit 1
	fi
	info "wrote $to"
}

# owe_restart leaves a note, which a restart takes away, that what runs may not be what is there: this run may end before, or be told not
# to start anything. It lies in memory, as after a reboot it is not true.
owe_restart() {
	[ -n "$service" ] && [ -z "$root" ] && [ "$init" != none ] || return 0
	owed=/run/skerry-install.$service
	[ -d /run ] || owed=/var/run/skerry-install.$service
	[ -z "$changed" ] || : >"$owed" || fail "cannot write $owed"
	[ -e "$owed" ] || owed=""
}
trap_signals() {
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

cleanup() {
	code=$?
	if [ -z "$committed" ]; then
		for temp in $staged; do rm -f "$temp"; done
		for dir in $made_dirs; do rmdir "$dir" 2>/dev/null || true; done
	fi
	case $code in 130 | 143) interrupted ;; esac
	[ -z "$work" ] || rm -rf "$work"
	exit "$code"
}
interrupted() {
	if [ -z "$committed" ]; then
		echo "skerry: interrupted: nothing was installed or changed${in_k3s:+ on this machine; $in_k3s stays in k3s}" >&2
	elif [ -n "$owed" ]; then
		echo "skerry: interrupted: everything is in place, and $service is not restarted; run this again" >&2
	else
		echo "skerry: interrupted: everything is in place" >&2
	fi
}

# ---- k3s

kube() { k3s kubectl --kubeconfig "$k3s_yaml" "$@"; }

refuse_without_k3s() {
	refuse_without_root
	command -v k3s >/dev/null 2>&1 || refuse "$k3s_yaml is there, and no program k3s in $PATH"
	answer=$(kube get --raw /readyz 2>&1) || refuse "the k3s on this machine does not answer: $(echo "$answer" | tail -n 1); start it first${1:-}"
}
refuse_beside_k3s() {
	refuse_without_k3s ', or set SKERRY_K3S=no for a cluster agent that has nothing to do with it'
	beside_k3s=1
	info "there is a k3s server on this machine: the devices are to be seen in its cluster (SKERRY_K3S=no: not)"
}
refuse_in_cluster() {
	[ -z "$root" ] || refuse "--in-cluster and DESTDIR: wanted a running k3s server"
	[ -z "$skip_start" ] || refuse "--in-cluster and INSTALL_SKERRY_SKIP_START: k3s starts at once what is in its directory"
	[ -e "$k3s_yaml" ] || refuse "--in-cluster wants a k3s server on this machine: there is no $k3s_yaml"
	refuse_without_k3s
	manifests=$k3s_data/server/manifests
	[ -d "$manifests" ] || refuse "there is no $manifests; has k3s another directory of data (K3S_DATA_DIR)?"
	[ -n "$advertise" ] || [ -e "$manifests/skerry-cluster-config.yaml" ] ||
		refuse "set SKERRY_ADVERTISE to the names and addresses, with commas, under which devices reach this cluster: a pod does not know them"
}

# The service's user may read nothing in /etc/skerry but through systemd.
kubeconfig_of_service() {
	if [ "$init" = systemd ]; then echo /run/credentials/skerry-cluster.service/kubeconfig; else echo "$etc/kubeconfig"; fi
}

# prepare_beside_k3s gives the cluster agent an account of its own in the cluster. A Secret holds its token: nobody would renew one that expires.
prepare_beside_k3s() {
	"$fresh_program" rbac >"$work/rbac.yaml" 2>"$work/run.log" || fail "$service prints no rights: $(tail -n 1 "$work/run.log")"
	cat >>"$work/rbac.yaml" <<-'EOF'
		---
		apiVersion: v1
		kind: Secret
		type: kubernetes.io/service-account-token
		metadata:
		  name: skerry-cluster-token
		  namespace: mlsysops
		  annotations: {kubernetes.io/service-account.name: skerry-cluster}
	EOF
	if [ -n "$dry_run" ]; then
		info "would make the account skerry-cluster in k3s, with the rights that $service rbac prints, and write $etc/kubeconfig"
		return
	fi
	kube apply -f "$work/rbac.yaml" >"$work/apply.log" 2>&1 || fail "k3s does not take the rights of the cluster agent: $(tail -n 1 "$work/apply.log")"
	in_k3s="the account skerry-cluster"
	info "k3s has the account skerry-cluster in the namespace mlsysops, with the rights that $service rbac prints"
	token="" waited=0
	until [ -n "$token" ]; do
		token=$(kube -n mlsysops get secret skerry-cluster-token -o 'go-template={{with .data}}{{with .token}}{{. | base64decode}}{{end}}{{end}}' 2>"$work/apply.log") || token=""
		[ -n "$token" ] || [ "$waited" -lt 30 ] || fail "k3s issues no token for the account skerry-cluster: $(tail -n 1 "$work/apply.log")"
		[ -n "$token" ] || sleep 1
		waited=$((waited + 1))
	done
	(umask 077 && cat >"$work/kubeconfig" <<-EOF
		apiVersion: v1
		kind: Config
		current-context: k3s
		clusters: [{name: k3s, cluster: {server: "$(of_k3s_yaml server)", certificate-authority-data: "$(of_k3s_yaml certificate-authority-data)"}}]
		users: [{name: skerry-cluster, user: {token: "$token"}}]
		contexts: [{name: k3s, context: {cluster: k3s, user: skerry-cluster}}]
	EOF
	)
	stage "$work/kubeconfig" "$etc/kubeconfig" 0600
	if [ "$init" = systemd ]; then
		printf '[Unit]\nAfter=k3s.service\n\n[Service]\nLoadCredential=kubeconfig:%s/kubeconfig\n' "$etc" >"$work/dropin"
		stage "$work/dropin" "/etc/systemd/system/$service.service.d/k3s.conf" 0644
	fi
	if [ -e "$etc/$config" ] && ! grep -qE '^mode: *"?(kube|k3s)' "$etc/$config"; then
		warn "$etc/$config is not of the mode kube: devices are not seen in the cluster. Set mode and kube.kubeconfig as in $config.new"
	fi
}
of_k3s_yaml() { sed -n "s/^ *$1: *//p" "$k3s_yaml" | head -n 1; }

# prepare_in_cluster has k3s know the image before it sees the chart. The chart's values are a file of their own, which is never written over.
prepare_in_cluster() {
	image=skerry-cluster_$version.oci.tar
	at=$k3s_data/agent/images/skerry-cluster.oci.tar
	[ -n "$(line_of "$image")" ] || fail "release $version has no $image"
	if [ ! -e "$at" ] || [ "$(sha256 "$at")" != "$(field "$image" sha256)" ]; then
		get_file "$image"
		if [ -z "$dry_run" ]; then
			k3s ctr --namespace k8s.io images import "$work/$image" >"$work/import.log" 2>&1 || fail "k3s cannot import the image $image: $(tail -n 1 "$work/import.log")"
			in_k3s="the image of skerry-cluster $version"
			info "k3s has the image of skerry-cluster $version; other machines of the cluster need $at too"
		fi
		stage "$work/$image" "$at" 0644
	fi
	cat >"$work/values" <<-EOF
		# Values of the chart skerry-cluster, and yours to change: k3s applies this file when it changes.
		apiVersion: helm.cattle.io/v1
		kind: HelmChartConfig
		metadata:
		  name: skerry-cluster
		  namespace: kube-system
		spec:
		  valuesContent: |-
		    config:
		      advertise: [$(quoted "$advertise")]
	EOF
	values=$manifests/skerry-cluster-config.yaml
	if [ ! -e "$values" ]; then
		stage "$work/values" "$values" 0600
	elif [ -n "$advertise" ] && ! cmp_files "$work/values" "$values"; then
		stage "$work/values" "$values.new" 0600 beside
		info "$values stays as it is; $values.new is how this run would have it"
	fi
	get_file "skerry-cluster_$version.helmchart.yaml"
	stage "$work/skerry-cluster_$version.helmchart.yaml" "$manifests/skerry-cluster.yaml" 0600
}

refuse_join() {
	refuse_without_root
	[ -z "$root" ] || refuse "SKERRY_K3S=join and DESTDIR: wanted the machine itself"
	case $init in systemd) k3s_env=/etc/systemd/system/k3s-agent.service.env ;; openrc) k3s_env=/etc/rancher/k3s/k3s-agent.env ;;
	*) refuse "SKERRY_K3S=join takes systemd or OpenRC; here is: $init" ;;
	esac
	case ${K3S_URL:-} in
	https://?*[!A-Za-z0-9.:/_-]* | https:///*) refuse "K3S_URL=$K3S_URL; wanted the URL of a k3s server, such as https://192.0.2.1:6443" ;;
	https://?*) ;;
	*) refuse "K3S_URL=${K3S_URL:-}; wanted the URL of a k3s server, such as https://192.0.2.1:6443" ;;
	esac
	case ${K3S_TOKEN:-} in
	'') refuse "K3S_TOKEN is not set; wanted the token of the k3s server, which is there in $k3s_data/server/node-token" ;;
	*[!A-Za-z0-9.:_+/=@%^-]*) refuse "K3S_TOKEN has a character that does not belong into one, such as a space or a quote; wanted it whole" ;;
	esac
	k3s_program=$(command -v k3s) || refuse "k3s is not on this machine, and this script fetches it from nowhere. Put the program of the server's version (k3s --version there) at /usr/local/bin/k3s, executable, or run k3s's own installer with INSTALL_K3S_SKIP_START=true; then run this again"
	answer=$("$k3s_program" --version 2>&1) || refuse "$k3s_program does not run on this machine: $(echo "$answer" | tail -n 1)"
	[ ! -e "$k3s_yaml" ] || refuse "this machine is a k3s server: $k3s_yaml is there"
	memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo 2>/dev/null) || memory=""
	[ -z "$memory" ] || [ "$memory" -ge 400 ] || refuse "this machine has $memory MiB of memory, and an agent of k3s wants 512; as a device (without SKERRY_K3S) it does with 16"
	[ ! -e /var/lib/skerry-edge/k3s/join.json ] || refuse "skerry-edge has joined this machine to k3s already; skerry run k3s.leave --on NODE takes it out"
	joined=$(sed -n "s/^K3S_URL='\{0,1\}\([^']*\).*/\1/p" "$k3s_env" 2>/dev/null | head -n 1) || joined=""
	[ -z "$joined" ] || [ "$joined" = "$K3S_URL" ] || refuse "$k3s_env joins this machine to $joined; wanted $K3S_URL. Leave that cluster first (k3s-agent-uninstall.sh)"
	[ -n "$joined" ] || [ ! -e "$k3s_data/agent/client-kubelet.crt" ] || refuse "k3s is a member of a cluster already: $k3s_data/agent/client-kubelet.crt is there"
}

# prepare_k3s_agent writes what k3s's own installer would have, where that is not there; the token goes into a file that root alone reads.
prepare_k3s_agent() {
	info "this machine is to be an agent of the k3s at $K3S_URL, and no device: $(echo "$answer" | head -n 1)"
	(umask 077 && {
		grep -vE '^K3S_(URL|TOKEN)=' "$k3s_env" 2>/dev/null || true
		printf "K3S_TOKEN='%s'\nK3S_URL='%s'\n" "$K3S_TOKEN" "$K3S_URL"
	} >"$work/env")
	stage "$work/env" "$k3s_env" 0600
	[ ! -e "$(service_file)" ] || return 0
	if [ "$init" = systemd ]; then
		cat >"$work/unit" <<-EOF
			# k3s as an agent, as Skerry's install.sh joined it. The server and the token are in k3s-agent.service.env.
			[Unit]
			Description=k3s agent
			After=network-online.target
			Wants=network-online.target

			[Service]
			Type=exec
			EnvironmentFile=$k3s_env
			ExecStartPre=-/sbin/modprobe br_netfilter
			ExecStartPre=-/sbin/modprobe overlay
			ExecStart=$k3s_program agent
			# Containers outlive it, and have control groups of their own.
			KillMode=process
			Delegate=yes
			LimitNOFILE=1048576
			TasksMax=infinity
			TimeoutStartSec=0
			Restart=always
			RestartSec=5s

			[Install]
			WantedBy=multi-user.target
		EOF
		stage "$work/unit" "$(service_file)" 0644
	else
		cat >"$work/unit" <<-EOF
			#!/sbin/openrc-run
			# k3s as an agent, as Skerry's install.sh joined it. The server and the token are in k3s-agent.env.
			description="k3s agent"
			supervisor="supervise-daemon"
			command="$k3s_program"
			command_args="agent"
			pidfile="/run/k3s-agent.pid"
			respawn_delay=5
			respawn_max=0
			output_log="/var/log/k3s-agent.log"
			error_log="/var/log/k3s-agent.log"
			set -o allexport
			. $k3s_env
			set +o allexport

			depend() {
			        need net
			        use cgroups
			        after firewall
			}
		EOF
		stage "$work/unit" "$(service_file)" 0755
	fi
}

# ---- the service

enable_service() {
	[ -n "$service" ] && [ -z "$skip_enable" ] || return 0
	case $init in
	systemd)
		[ -z "$changed$owed" ] || run systemctl daemon-reload
		systemctl is-enabled --quiet "$service.service" 2>/dev/null || run systemctl enable "$service.service" ;;
	openrc) rc-update show default 2>/dev/null | grep -q "^ *$service " || run rc-update add "$service" default ;;
	procd) "/etc/init.d/$service" enabled 2>/dev/null || run "/etc/init.d/$service" enable ;;
	none) info "no init system that this script knows; at boot run: $bin/$service run$([ "$etc" = /etc/skerry ] || echo " --config $etc/$config")" ;;
	esac
}

run() {
	info "+ $*"
	"$@" || { echo "skerry: error: $* failed; everything is installed, and nothing was undone" >&2; exit 1; }
}

start_service() {
	[ -n "$service" ] || return 0
	case $init in
	systemd) is_running="systemctl is-active --quiet $service.service" restart="systemctl restart $service.service" ;;
	openrc) is_running="rc-service --quiet $service status" restart="rc-service $service restart" ;;
	procd) is_running="/etc/init.d/$service running" restart="/etc/init.d/$service start" ;;
	none) return 0 ;;
	esac
	if [ -n "$skip_start" ]; then
		[ -z "$owed" ] || info "not started, as INSTALL_SKERRY_SKIP_START says: $restart"
		return 0
	fi
	if [ "$mode" = edge ] && [ ! -s "$root$etc/edge.join" ] && [ ! -e "$(state_dir)/identity.json" ]; then
		info "not started, as it has no join string: write one to $etc/edge.join (0600) and then: $restart; or run this again with SKERRY_JOIN_FILE"
		skip_start=1
		return 0
	fi
	if [ -z "$changed$owed" ] && $is_running >/dev/null 2>&1; then
		info "nothing has changed: $service goes on"
		return 0
	fi
	[ "$init" != procd ] || stop_under_procd
	info "+ $restart"
	# shellcheck disable=SC2086 # words
	$restart || not_online "$service is installed, and does not start: $restart failed"
	[ -z "$owed" ] || rm -f "$owed"
	owed=""
}

# stop_under_procd waits, which procd does not: the old process would be the one that is asked whether it is online.
stop_under_procd() {
	! $is_running >/dev/null 2>&1 || run "/etc/init.d/$service" stop
	waited=0
	while [ "$waited" -lt 35 ] && $is_running >/dev/null 2>&1; do
		sleep 1
		waited=$((waited + 1))
	done
}

wait_until_online() {
	case $mode:$skip_start:$init in
	in-cluster:*) ;; # k3s starts it, whatever starts k3s
	cli:* | *:1:* | *:none)
		info "done"
		return 0 ;;
	esac
	waited=0
	until online; do
		if [ "$waited" -ge "$wait_seconds" ]; then
			not_online "${service:-skerry-cluster} is installed, and not online after $wait_seconds s"
		fi
		sleep 1
		waited=$((waited + 1))
	done
	if [ "$mode" = k3s-agent ]; then
		info "this machine has joined; on the server: kubectl get nodes"
		return
	fi
	runs=""
	[ "$mode" != edge ] || runs=$(version_that_runs)
	info "${service:-skerry-cluster} ${runs:-$version} is online"
	case $runs in
	"$version" | '') ;;
	*)
		if older "$runs" "$version"; then
			warn "$runs is what runs, and not $version, which is installed; the journal says why"
		else
			info "it has updated itself since $version; to go back: this again with SKERRY_VERSION=$version"
		fi ;;
	esac
	sudo=${SUDO_USER:+sudo }
	case $mode in
	in-cluster) info "next: ${sudo}k3s kubectl -n mlsysops exec skerry-cluster-0 -- /skerry-cluster admin >admin.yaml; SKERRY_CONFIG=admin.yaml $bin/skerry token create" ;;
	cluster) info "next: ${sudo}SKERRY_CONFIG=$(state_dir)/admin.yaml $bin/skerry token create" ;;
	esac
}
not_online() {
	echo "skerry: error: $1" >&2
	case $mode in
	edge) "$bin/skerry-edge" doctor --config "$etc/$config" >&2 || true ;;
	in-cluster)
		kube -n kube-system get helmcharts.helm.cattle.io,pods -l helmcharts.helm.cattle.io/chart=skerry-cluster >&2 || true
		kube -n mlsysops get pods,persistentvolumeclaims,events >&2 || true ;;
	k3s-agent)
		if [ "$init" = systemd ]; then journalctl -u k3s-agent -n 10 --no-pager >&2 || true
		else tail -n 10 /var/log/k3s-agent.log >&2 || true
		fi ;;
	esac
	exit 3
}
online() {
	case $mode in
	edge) "$bin/skerry-edge" status --config "$etc/$config" -o json 2>/dev/null | grep -q '"connected": true' ;;
	cluster) SKERRY_CONFIG=$(state_dir)/admin.yaml "$bin/skerry" get nodes >/dev/null 2>&1 ;;
	in-cluster) # the pod of this version, and ready
		[ "$(kube -n mlsysops get statefulset skerry-cluster -o 'jsonpath={.spec.template.spec.containers[0].image} {.status.updatedReplicas} {.status.readyReplicas}' 2>/dev/null)" = \
			"ghcr.io/skerry-edge/skerry-cluster:$version 1 1" ] ;;
	k3s-agent) [ -s "$k3s_data/agent/client-kubelet.crt" ] && $is_running >/dev/null 2>&1 ;; # its server has taken it
	esac
}

main "$@"
exit
}
