#!/bin/sh
# Removes what install.sh installed: programs, service files, and this script itself, last. Installed as skerry-uninstall.
#
#   skerry-uninstall            configuration and state stay: installing again goes on where it was
#   skerry-uninstall --purge    they go too, and the node leaves its cluster, where its telemetry goes with it
#   skerry-uninstall edge       the device alone; cluster: the cluster agent and the command line; cli: the command line. Also with --purge
#
#   INSTALL_SKERRY_DIR, INSTALL_SKERRY_BIN_DIR, DESTDIR, K3S_DATA_DIR   as for install.sh; the programs are looked for beside this script
#
# Containers end with it, since nothing would look after them. Exit codes: 0 done (also when there was nothing), 1 failed, 2 refused.
{
set -eu

main() {
	read_arguments "$@"
	root=${DESTDIR:-}
	root=${root%/}
	etc=${INSTALL_SKERRY_DIR:-/etc/skerry}
	bin=${INSTALL_SKERRY_BIN_DIR:-}
	if [ -z "$bin" ]; then
		bin=/usr/local/bin
		case $0 in */skerry-uninstall) bin=$(cd "$(dirname "$0")" && pwd) && root="" ;; esac
	fi
	[ -n "$root" ] || [ "$(id -u)" = 0 ] || refuse "this takes root; run it again with: sudo $0"
	told=""
	# where state and updates lie, as the configuration says
	state=$(sed -n 's/^dir: *"\{0,1\}\([^"# ]*\).*/\1/p' "$root$etc/edge.yaml" 2>/dev/null | head -n 1)
	: "${state:=/var/lib/skerry-edge}"
	slots=$(sed -n '/^update:/,/^[a-z]/s/^  dir: *"\{0,1\}\([^"# ]*\).*/\1/p' "$root$etc/edge.yaml" 2>/dev/null | head -n 1)
	if [ -n "$purge" ] && [ -z "$root" ] && has skerry-edge; then leave; fi
	for service in $services; do
		stop_service "$service"
	done
	! has skerry-edge || end_containers
	! has skerry-cluster || leave_k3s
	for service in $services; do
		remove_file "$root/etc/systemd/system/$service.service"
		remove_file "$root/etc/systemd/system/$service.service.d/k3s.conf"
		rmdir "$root/etc/systemd/system/$service.service.d" 2>/dev/null || true # a drop-in of yours stays
		if ours "$root/etc/init.d/$service"; then remove_file "$root/etc/init.d/$service"; fi
		remove_file "$root/etc/logrotate.d/$service"
		remove_file "$root/lib/upgrade/keep.d/$service"
	done
	for program in $programs; do remove_file "$root$bin/$program"; done
	if [ -z "$root" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	[ -z "$purge" ] || purge_state
	remove_itself
	if [ -n "$purge" ]; then
		[ -z "$told" ] || info "the cluster agent still knows this node: $told"
	elif [ -n "$services" ]; then
		info "configuration in $etc and the state stay; --purge would have removed them"
		[ -e "$root$bin/skerry-uninstall" ] || info "to do that later: the release server's uninstall.sh with --purge, or install again, since a node leaves its cluster by its program"
	fi
}

read_arguments() {
	purge="" role=""
	for argument in "$@"; do
		case $argument:$role in
		--purge:*) purge=1 ;;
		edge: | cluster: | cli:) role=$argument ;;
		-h:* | --help:*)
			echo "usage: skerry-uninstall [edge|cluster|cli] [--purge]; without a role: all that is there"
			exit ;;
		*) refuse "arguments $*; wanted edge, cluster or cli, or none of them for all that is there, and --purge" ;;
		esac
	done
	case $role in
	'') services="skerry-edge skerry-cluster" programs="skerry-edge skerry-cluster skerry" ;;
	edge) services=skerry-edge programs=skerry-edge ;;
	cluster) services=skerry-cluster programs="skerry-cluster skerry" ;;
	cli) services="" programs=skerry ;;
	esac
}
# has tells whether $1 is among what is to go.
has() { case " $services " in *" $1 "*) ;; *) return 1 ;; esac; }

# remove_itself, unless it may be wanted again.
remove_itself() {
	for program in skerry-edge skerry-cluster skerry; do
		[ ! -e "$root$bin/$program" ] || { info "$root$bin/skerry-uninstall stays, for $program" && return; }
	done
	remove_file "$root$bin/skerry-uninstall"
}

info() { echo "skerry: $*"; }
refuse() {
	echo "skerry: error: $*" >&2
	exit 2
}

# ask is a question to the node agent, by the configuration that it runs with.
ask() {
	if [ -e "$etc/edge.yaml" ]; then "$bin/skerry-edge" "$@" --config "$etc/edge.yaml"; else "$bin/skerry-edge" "$@"; fi
}

# leave takes the node out of its cluster. Where that does not work, it goes on: the device may have been cut off for good.
leave() {
	if [ ! -x "$bin/skerry-edge" ]; then
		stays_member
	elif told=$(ask leave 2>&1); then
		info "$told"
		told=""
	else
		case $told in *"in no cluster"*) told="" ;; esac
	fi
}
# stays_member says so when the program that could leave is gone, after an uninstallation without a purge.
stays_member() {
	grep -qs '"certificate": *"-' "$state/identity.json" || return 0
	name=$(sed -n 's/^ *"node": *"\([^"]*\)".*/\1/p' "$state/identity.json" | head -n 1)
	told="$bin/skerry-edge is gone, with which it would leave; who may, removes it there with: skerry node remove $name"
}
ours() { [ -f "$1" ] && grep -qs Skerry "$1"; }

stop_service() {
	[ -z "$root" ] || return 0
	if [ -d /run/systemd/system ] && [ -e "/etc/systemd/system/$1.service" ]; then
		systemctl disable --now "$1.service" || info "$1 does not stop; it goes on being removed"
	elif ours "/etc/init.d/$1"; then
		if command -v rc-service >/dev/null 2>&1; then
			rc-service "$1" stop || true # it may not run
			rc-update delete "$1" default || true
		else
			"/etc/init.d/$1" stop || true
			"/etc/init.d/$1" disable || true
		fi
	fi
}

# end_containers ends what still runs of skerry-edge on this machine: the supervisors, and with each the kernel ends what is inside.
end_containers() {
	[ -z "$root" ] || return 0
	for signal in TERM KILL; do
		left=""
		for process in /proc/[0-9]*; do
			is_ours "$process" || continue
			left=1
			kill -s "$signal" "${process#/proc/}" 2>/dev/null || true # it may have ended
		done
		[ -n "$left" ] || return 0
		sleep 1
	done
}
# is_ours tells whether a process runs the node agent from where it is installed or updated to. One with another root, such as a container
# has, may do so from a path of that name.
is_ours() {
	exe=$(readlink "$1/exe" 2>/dev/null) || return 1
	exe=${exe%" (deleted)"}
	# shellcheck disable=SC3013 # dash, bash and busybox know it, and POSIX since 2024
	case $exe in
	"$bin/skerry-edge" | "${slots:-$state/update}"/[ab]/skerry-edge) [ "$1/root" -ef / ] ;;
	*) return 1 ;;
	esac
}

# leave_k3s takes out of k3s what install.sh put there. k3s goes on with what it has deployed after its file is gone, so it is told.
leave_k3s() {
	data=${K3S_DATA_DIR:-/var/lib/rancher/k3s}
	if [ -e "$root$data/server/manifests/skerry-cluster.yaml" ]; then
		remove_file "$root$data/server/manifests/skerry-cluster.yaml"
		remove_file "$root$data/agent/images/skerry-cluster.oci.tar"
		kube -n kube-system delete --ignore-not-found helmcharts.helm.cattle.io/skerry-cluster
		values=$root$data/server/manifests/skerry-cluster-config.yaml
		if [ -n "$purge" ]; then
			remove_file "$values"
			kube -n kube-system delete --ignore-not-found helmchartconfigs.helm.cattle.io/skerry-cluster
			kube -n mlsysops delete --ignore-not-found persistentvolumeclaim/state-skerry-cluster-0
		else
			info "the cluster agent's state stays, as the claim state-skerry-cluster-0 in the namespace mlsysops, and its values in $values"
		fi
	fi
	if [ -n "$purge" ] && [ -e "$root$etc/kubeconfig" ]; then
		kube -n mlsysops delete --ignore-not-found secret/skerry-cluster-token
		info "the namespace mlsysops and the roles skerry-… stay in k3s, as other objects may be there"
	fi
}
kube() {
	[ -z "$root" ] || return 0
	k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml "$@" || info "k3s was not told: k3s kubectl $*"
}

remove_file() {
	[ -e "$1" ] || [ -L "$1" ] || return 0
	rm -f "$1"
	info "removed $1"
}

# purge_state takes the directories of the defaults. Others, which the configuration names, are told of.
purge_state() {
	[ -n "$services" ] || return 0
	purge_configuration
	for service in $services; do
		for dir in "$root/var/lib/$service" "$root/var/lib/private/$service" "$root/run/$service"; do
			[ -e "$dir" ] || [ -L "$dir" ] || continue
			rm -rf "$dir"
			info "removed $dir"
		done
		for log in "$root/var/log/$service.log"*; do remove_file "$log"; done
	done
}

# purge_configuration takes what install.sh has put there and no more: the directory may be one that others have files in.
purge_configuration() {
	for service in $services; do
		file=$root$etc/${service#skerry-}.yaml
		sed -n 's/^dir: *\(.*[^ ]\) *$/\1/p' "$file" 2>/dev/null | grep -v -e '^/var/lib/skerry-' -e "^$etc/skerry-" |
			while read -r dir; do info "stays, as the configuration named it: $dir"; done
		remove_file "$file"
		remove_file "$file.new"
		[ ! -d "$root$etc/$service" ] || { rm -rf "$root${etc:?}/$service" && info "removed $root$etc/$service"; }
	done
	! has skerry-edge || {
		for dir in $slots; do info "stays, as the configuration named it: $dir"; done
		remove_file "$root$etc/edge.join"
	}
	! has skerry-cluster || remove_file "$root$etc/kubeconfig"
	if [ -d "$root$etc" ]; then
		if rmdir "$root$etc" 2>/dev/null; then info "removed $root$etc"; else info "$root$etc stays: others have files there"; fi
	fi
}

main "$@"
exit
}
