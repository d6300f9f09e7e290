#!/bin/bash
# A hand-over that was saved, and then the boot goes on: nothing is lost, and the
# volume can be written to again, also when the program was killed in between.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

state=$work/state/volumes/v
read_only() { blockdev --getro "$disk"; }
trust() { clawback status v --json | jq -r '.volumes[0] | .trust + .reason'; }

assert_going_on() {
	[ ! -e "$state/handover" ] || fail "$1: the hand-over file is still there"
	[ ! -e "$state/held" ] || fail "$1: the note is still there"
	assert_equal 0 "$(read_only)" "read-only $1"
	assert_equal tracked "$(trust)" "the trust $1"
}

[ "$(id -u)" = 0 ] || skip "not root"
RANDOM=$((CLAWBACK_SEED % 32768))
make_disk disk 32M
defer blockdev --setrw "$disk"
clawback_begin "$work/repository" open
clawback_volume v "$disk"
assert_refused 1 'not attached' clawback handover v
clawback attach v
assert_refused 1 'untrusted' clawback handover v
[ "$(clawback handover --all --json | jq '.volumes | length')" = 0 ] || fail "it was handed over"
assert_equal 0 "$(read_only)" "read-only after a refusal"
fill "$disk" 4
backup v

echo "== saved, and a backup in the same boot"
fill "$disk" 2 8
clawback handover v
assert_equal 1 "$(read_only)" "read-only when handed over"
clawback handover v
assert_refused 1 'read-only' clawback restore v --to "$disk" "${clawback_key[@]}"
backup v
assert_kind incremental
assert_going_on "after a backup"
assert_matches_volume v "$disk"

echo "== killed at any time"
for round in {1..20}; do
	fill "$disk" 1 $((round % 16 + 10))
	clawback_start handover v
	sleep "0.0$((RANDOM % 60 + 10))"
	clawback_stop $clawback_pid || true
	clawback attach v >/dev/null
	assert_going_on "in round $round"
done
backup v
assert_kind incremental
assert_matches_volume v "$disk"

echo "== detached"
clawback handover v
clawback detach v
[ ! -e "$state/handover" ] || fail "the hand-over file outlives detach"
assert_equal 0 "$(read_only)" "read-only after detach"
clawback_end
