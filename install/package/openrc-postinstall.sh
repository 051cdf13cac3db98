#!/bin/sh
# After installation: nothing is started before it is configured.
command -v rc-service >/dev/null 2>&1 || exit 0
rc-service --ifstarted @PROGRAM@ restart || true
