#!/bin/bash
# The point of a group is one instant for all its volumes; the guardian resumes them
# when the agent dies or hangs while they are suspended.
#
# quick-kernels: 6.1
# guest: plain 2048M
# timeout: 600
# full-timeout: 1800
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/tests/vm/volume_group
rounds=5
is_full && rounds=40
modprobe -a dm-snapshot loop
"$program" --rounds $rounds
echo "== broken on purpose: one volume after the other"
caught=
# The moment between the two may happen to be missed a few times in a row.
for _ in 1 2 3 4 5; do
	code=0
	"$program" --rounds 8 --mutation split || code=$?
	[ $code = 1 ] && caught=1 && break
	[ $code = 0 ] || fail "exit code $code"
done
[ "$caught" ] || fail "a group switched one by one went unnoticed"
