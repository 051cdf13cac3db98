#!/bin/sh
# Installs the Debian packages that the tests use as peers. Nothing is started (RUNLEVEL=1 keeps invoke-rc.d from it). OpenRC is fetched
# and not installed, as it would be a second init system: its test unpacks it.
set -eu
wanted="mosquitto mosquitto-clients prometheus prometheus-node-exporter qemu-user-static containerd runc shellcheck iproute2 procps
	busybox-static dash curl wget openssl minisign signify-openbsd zstd xz-utils systemd rpm"
missing=""
for p in $wanted; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
	echo "installing$missing" >&2
	if [ "$(id -u)" != 0 ]; then
		echo "these Debian packages are needed:$missing; run: sudo apt-get install$missing" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
	apt-get update -qq >&2
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

fetch_openrc() (
	rm -rf bin/openrc.new
	mkdir -p bin/openrc.new
	cd bin/openrc.new
	apt-get download -qq -o APT::Sandbox::User=root openrc libeinfo1 librc1 >&2
)
if [ ! -d bin/openrc ]; then
	if fetch_openrc || { apt-get update -qq >&2 && fetch_openrc; }; then
		mv bin/openrc.new bin/openrc
	else
		echo "OpenRC cannot be fetched: its test will be skipped" >&2
	fi
fi
