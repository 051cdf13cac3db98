#!/bin/sh
# After installation and upgrade: a running service is restarted with the new program; a new one waits for its configuration.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl try-restart @PROGRAM@.service
