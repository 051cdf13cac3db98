#!/bin/sh
# After installation and upgrade: a running service is restarted with the new program; a new one waits for its configuration.
set -e
# dpkg gives a file the time of the release. A program written anew counts more than what the node agent was updated to, the same once more
# as well, and its time tells. rpm would take another time for a fault.
[ "${1:-}" != configure ] || touch -c "/usr/bin/@PROGRAM@"
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
[ ! -e "/etc/systemd/system/@PROGRAM@.service" ] ||
	echo "@PROGRAM@: /etc/systemd/system/@PROGRAM@.service hides this package's; if install.sh wrote it, skerry-uninstall removes it, and configuration and state stay"
systemctl is-enabled --quiet @PROGRAM@.service 2>/dev/null ||
	echo "@PROGRAM@ is not started before it is configured: what to write is in docs/install.md, Packages; then: systemctl enable --now @PROGRAM@"
systemctl try-restart @PROGRAM@.service
