#!/bin/sh
# Logs a relay's address as its own, records its flags, and runs until it is stopped.
echo "$@" >"$NOTE"
echo "INFO listening address=$ADDRESS tls=false" >&2
exec sleep 60
