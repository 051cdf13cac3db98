#!/bin/sh
# After installation: nothing is started before it is configured. IPKG_INSTROOT is set while an image is made.
[ -z "${IPKG_INSTROOT:-}" ] || exit 0
if /etc/init.d/@PROGRAM@ running 2>/dev/null; then /etc/init.d/@PROGRAM@ restart; fi
exit 0
