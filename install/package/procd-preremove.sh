#!/bin/sh
# Before removal.
[ -z "${IPKG_INSTROOT:-}" ] || exit 0
/etc/init.d/@PROGRAM@ disable || true
/etc/init.d/@PROGRAM@ stop || true
