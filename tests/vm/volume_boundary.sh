#!/bin/bash
# No write is missed between two points in time, on every kind of volume; and the
# comparison does notice when the protocol is broken on purpose.
#
# guest: plain 2048M
# quick-kernels: 6.1
# timeout: 600
# full-timeout: 2400
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/tests/vm/volume_boundary
rounds=4
is_full && rounds=25
modprobe -a dm-snapshot dm-crypt dm-thin-pool loop

echo "== linear"
"$program" --rounds $rounds

echo "== suspended for 50 ms with writes queueing up"
"$program" --rounds $rounds --bytes $((32 << 20)) --mutation hold

for mutation in no-copy late-rotate no-alias no-discard; do
	echo "== broken on purpose: $mutation"
	caught=
	# One of these races may happen to be won once.
	for _ in 1 2 3; do
		code=0
		"$program" --rounds 4 --bytes $((32 << 20)) --mutation $mutation || code=$?
		[ $code = 1 ] && caught=1 && break
		[ $code = 0 ] || fail "exit code $code"
	done
	[ "$caught" ] || fail "$mutation went unnoticed"
done

on() {
	echo "== $1"
	"$program" --rounds 2 --bytes $((16 << 20)) --table "$2"
}
key=0123456789abcdef0123456789abcdef
on crypt "0 SECTORS crypt aes-xts-plain64 $key$key$key$key 0 DEVICE 0"
# The tests named volumes_ take these through a shorter life.
is_full || exit 0
on striped "0 SECTORS striped 2 64 DEVICE 0 DEVICE 16384"
on "two segments" "0 8192 linear DEVICE 8192
8192 8192 linear DEVICE 0
16384 16384 linear DEVICE 16384"

make_disk disk 80M
make_thin_volume _ lab-thin "$disk" 32768
dmsetup remove lab-thin	# the program makes its own device on the same thin volume
on thin "0 SECTORS thin /dev/mapper/lab-thin-pool 0"
dmsetup create lab-thin --table "0 32768 thin /dev/mapper/lab-thin-pool 0"	# for the clean-up
