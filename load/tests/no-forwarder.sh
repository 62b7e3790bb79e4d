#!/bin/sh
# Logs the address to which it should forward as its own, so phones connect directly to the far end.
echo "INFO listening address=$4 tls=false" >&2
exec sleep 60
