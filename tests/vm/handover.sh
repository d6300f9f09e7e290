#!/bin/bash
# A clean reboot leaves volumes tracked, and nothing else does: systemd boots,
# mounts, unmounts and shuts down; between the boots somebody else has the disks.
#
# quick-kernels: 6.12
# guest: host
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"

truncate -s 3G "$work/root"
mkfs.ext4 -q -F "$work/root"
truncate -s 256M "$work/data" "$work/lvm"
truncate -s 64M "$work/plain"
# Here, for an emulated CPU takes seconds to turn a passphrase into a key.
(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
"$CLAWBACK_BUILD/clawback" keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase" \
	>/dev/null
(umask 077 && openssl pkey -in "$work/recovery.pem" -out "$work/opened.pem" \
	-passin "file:$work/passphrase")
make -s BUILD="$CLAWBACK_BUILD" DESTDIR="$work/install" install
cp "$work/recovery.pem.pub" "$work/install/etc/clawback/"
cp "$work/passphrase" "$work/install/etc/clawback/"
mv "$work/opened.pem" "$work/install/etc/clawback/recovery.pem"

# boot STEP [OPTION]...: tests/lib/handover-guest.sh STEP in a guest with the disks.
boot() {
	local step=$1
	shift
	echo "==== boot: $step, $SECONDS s"
	guest_run --memory 1536 --timeout 300 --root-disk "$work/root" --disk-file "$work/data" \
		--disk-file "$work/lvm" --disk-file "$work/plain" --env INSTALL="$work/install" "$@" -- bash tests/lib/handover-guest.sh "$step"
}

boot prepare --udev
boot load --systemd
assert_exit 99 boot tamper
assert_exit 99 boot judge --systemd
# What comes next is told by unit tests, too.
! is_full || boot after_cut
