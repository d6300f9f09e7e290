#!/bin/bash
# clawback-protect.service as it is installed, under systemd: in its sandbox the daemon
# takes points of a device-mapper volume, with a hook that becomes another user; it holds
# no mount that the system has given up.
#
# full-only: yes
# guest: host
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"

(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
"$CLAWBACK_BUILD/clawback" keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase" \
	>/dev/null
make -s BUILD="$CLAWBACK_BUILD" DESTDIR="$work/install" install
cp "$work/recovery.pem.pub" "$work/install/etc/clawback/"
# Opened here, for an emulated CPU takes seconds to turn a passphrase into a key.
(umask 077 && openssl pkey -in "$work/recovery.pem" -out "$work/install/etc/clawback/recovery.pem" \
	-passin "file:$work/passphrase")
guest_run --memory 1536 --timeout 500 --disk 128M --systemd --env INSTALL="$work/install" -- \
	bash tests/lib/unit-guest.sh
