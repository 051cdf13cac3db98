#!/bin/sh
# Before removal, and not before an upgrade: deb says "remove", rpm 0.
set -e
[ -d /run/systemd/system ] || exit 0
case "${1:-}" in
remove | 0) systemctl disable --now @PROGRAM@.service ;;
esac
