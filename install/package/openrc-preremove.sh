#!/bin/sh
# Before removal.
command -v rc-service >/dev/null 2>&1 || exit 0
rc-service --ifstarted @PROGRAM@ stop || true
rc-update delete @PROGRAM@ default 2>/dev/null || true
