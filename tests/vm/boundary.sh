#!/bin/bash
# Many points in time of a volume under random writers, as a raw device and below
# ext4 and xfs: no block is ever missed. (volume_boundary.sh shows that the
# comparison notices when the protocol is broken.)
#
# guest: plain 2048M
# timeout: 900
# full-timeout: 5400
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/tests/vm/volume_boundary
rounds=6	# of each
! is_full || rounds=200
modprobe -a dm-snapshot loop ext4 xfs

hold_still() {
	echo "== $*"
	"$program" --rounds $rounds "$@" >"$work/out" 2>&1 ||
		fail "$*: $(grep -v 'missed 0$' "$work/out" | tail -n 5)"
	grep -c '^round' "$work/out"
	tail -n 1 "$work/out"
}

hold_still --bytes $((8 << 20))
hold_still --bytes $((24 << 20)) --writer tests/vm/write-files-ext4
hold_still --bytes $((24 << 20)) --writer tests/vm/write-files-xfs
