#!/bin/sh
# Before removal, and not before an upgrade: the new program is started by what comes after it.
[ -z "${IPKG_INSTROOT:-}" ] || exit 0
[ "${PKG_UPGRADE:-}" != 1 ] || exit 0
/etc/init.d/@PROGRAM@ disable || true
/etc/init.d/@PROGRAM@ stop || true
