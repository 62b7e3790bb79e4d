#!/bin/sh
# Says that it listens where a relay does, notes its flags, and runs until it is stopped.
echo "$@" >"$NOTE"
echo "INFO listening address=$ADDRESS tls=false" >&2
exec sleep 60
