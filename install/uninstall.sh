#!/bin/sh
# Removes what install.sh installed: programs, service files, and this script itself, last. Installed as skerry-uninstall.
#
#   skerry-uninstall            configuration and state stay: installing again goes on where it was
#   skerry-uninstall --purge    they go too, and the node leaves its cluster, where its telemetry goes with it
#
#   INSTALL_SKERRY_DIR, INSTALL_SKERRY_BIN_DIR, DESTDIR, K3S_DATA_DIR   as for install.sh; the programs are looked for beside this script
#
# Containers end with it, since nothing would look after them. Exit codes: 0 done (also when there was nothing), 1 failed, 2 refused.
{
set -eu

services="skerry-edge skerry-cluster"

main() {
	purge=""
	case ${1:-} in
	'') ;;
	--purge) purge=1 ;;
	*) refuse "argument $1; wanted --purge or nothing" ;;
	esac
	[ $# -le 1 ] || refuse "arguments $*; wanted at most --purge"
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
	# where updates lie, when the configuration says
	slots=$(sed -n '/^update:/,/^[a-z]/s/^  dir: *"\{0,1\}\([^"# ]*\).*/\1/p' "$root$etc/edge.yaml" 2>/dev/null | head -n 1)
	if [ -n "$purge" ] && [ -z "$root" ] && [ -x "$bin/skerry-edge" ]; then leave; fi
	for service in $services; do
		stop_service "$service"
	done
	end_containers
	leave_k3s
	for service in $services; do
		remove_file "$root/etc/systemd/system/$service.service"
		remove_file "$root/etc/systemd/system/$service.service.d/k3s.conf"
		rmdir "$root/etc/systemd/system/$service.service.d" 2>/dev/null || true # a drop-in of yours stays
		if ours "$root/etc/init.d/$service"; then remove_file "$root/etc/init.d/$service"; fi
		remove_file "$root/etc/logrotate.d/$service"
		remove_file "$root/lib/upgrade/keep.d/$service"
		remove_file "$root$bin/$service"
	done
	remove_file "$root$bin/skerry"
	if [ -z "$root" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	[ -z "$purge" ] || purge_state
	remove_file "$root$bin/skerry-uninstall"
	if [ -n "$purge" ]; then
		[ -z "$told" ] || info "the cluster agent still knows this node: $told"
	else
		info "configuration in $etc and the state stay; --purge would have removed them"
	fi
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
	if told=$(ask leave 2>&1); then
		info "$told"
		told=""
	else
		case $told in *"in no cluster"*) told="" ;; esac
	fi
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
			"/etc/init.d/$1" stop 2>/dev/null || true # procd may not know it
			"/etc/init.d/$1" disable || true
			left=35 # procd does not wait for the end, and what is removed would be written again
			while [ "$left" -gt 0 ] && "/etc/init.d/$1" running >/dev/null 2>&1; do sleep 1 && left=$((left - 1)); done
		fi
	fi
}

# end_containers ends what still runs of skerry-edge: the supervisors, and with each the kernel ends what is inside.
end_containers() {
	[ -z "$root" ] || return 0
	for signal in TERM KILL; do
		left=""
		for process in /proc/[0-9]*; do
			case $(readlink "$process/exe" 2>/dev/null) in
			"$bin/skerry-edge" | "$bin/skerry-edge (deleted)" | "${slots:-$bin}"/[ab]/skerry-edge | "${slots:-$bin}"/[ab]/"skerry-edge (deleted)" | */update/[ab]/skerry-edge | */update/[ab]/"skerry-edge (deleted)")
				left=1
				kill -s "$signal" "${process#/proc/}" 2>/dev/null || true ;; # it may have ended
			esac
		done
		[ -n "$left" ] || return 0
		sleep 1
	done
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
	purge_configuration
	for dir in "$root/var/lib/skerry-edge" "$root/var/lib/skerry-cluster" "$root/var/lib/private/skerry-cluster" \
		"$root/run/skerry-edge" "$root/run/skerry-cluster"; do
		[ -e "$dir" ] || [ -L "$dir" ] || continue
		rm -rf "$dir"
		info "removed $dir"
	done
	for service in $services; do
		for log in "$root/var/log/$service.log"*; do remove_file "$log"; done
	done
}

# purge_configuration takes what install.sh has put there and no more: the directory may be one that others have files in.
purge_configuration() {
	other=$(sed -n 's/^dir: *\(.*[^ ]\) *$/\1/p' "$root$etc"/edge.yaml "$root$etc"/cluster.yaml 2>/dev/null | grep -v -e '^/var/lib/skerry-' -e "^$etc/skerry-" || true)
	for dir in $other $slots; do info "stays, as the configuration named it: $dir"; done
	for name in edge.yaml edge.yaml.new edge.join cluster.yaml cluster.yaml.new kubeconfig; do remove_file "$root$etc/$name"; done
	for service in $services; do
		[ ! -d "$root$etc/$service" ] || { rm -rf "$root${etc:?}/$service" && info "removed $root$etc/$service"; }
	done
	if [ -d "$root$etc" ]; then
		if rmdir "$root$etc" 2>/dev/null; then info "removed $root$etc"; else info "$root$etc stays: others have files there"; fi
	fi
}

main "$@"
exit
}
