#!/bin/bash
# kill -9 and errors at every named fault point of a rewind: run again, with a safety
# point or without one, it finishes, trusted all the time, and no mark is lost.
#
# timeout: 300
# full-timeout: 900
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/faults/points.sh

[ "$(id -u)" = 0 ] || skip "not root"
every=5
! is_full || every=1
clawback_begin "$work/repository" open
make_disk disk 6M
clawback_volume v "$disk" "spot_checks = 4"
fault_device=$disk
fill "$disk" 5
clawback backup v >/dev/null
cp "$disk" "$work/image"

rewind() { clawback restore --in-place v@1 "${clawback_key[@]}" "$@" >"$work/out" 2>"$work/err"; }

fault_rewrite
CLAWBACK_FAULT_LOG=$fault_log rewind || fail "$(cat "$work/err")"
sort -u "$fault_log" >"$work/names"
for name in rotate.replace commit.point commit.pending rewind.keep rewind.write; do
	grep -qx "$name" "$work/names" || fail "a rewind does not pass $name: $(cat "$work/names")"
done

# rewind_round NAME WHAT: killed or failed there; then once more.
rewind_round() {
	local code=0 again=(--no-safety-point)
	fault_mutate
	CLAWBACK_FAULT=$1:$2:1 rewind || code=$?
	case $2:$code in
	kill:137) kills=$((kills + 1)) ;;
	kill:0) missed=$((missed + 1)) ;;	# not passed each time
	kill:*) fail "killed at $1, yet exit code $code: $(cat "$work/err")" ;;
	*:0) survived=$((survived + 1)) ;;
	*:1) errors=$((errors + 1))
		grep -q . "$work/err" || fail "failed at $1 without a word" ;;
	*) fail "an error at $1 gave exit code $code: $(cat "$work/err")" ;;
	esac
	# Others may write before the second attempt.
	[ $((mutations % 2)) = 0 ] || fault_mutate
	[ $((mutations % 3)) != 0 ] || again=()
	rewind "${again[@]}" || fail "after $2 at $1: $(cat "$work/err")"
	grep -q "but for .* that were marked since" "$work/err" ||
		fail "$2 at $1 cost the trust: $(cat "$work/err")"
	blockdev --flushbufs "$disk"
	cmp "$disk" "$work/image" || fail "not as it was after $2 at $1"
}

kills=0 missed=0 errors=0 survived=0 skip=$((CLAWBACK_SEED % every))
while read -r name <&3; do
	case $name in
	# Where the marks are in one place only, and what a rewind itself does: always.
	rotate.*|boundary.*|pending.*|rewind.*) ;;
	*) [ $((skip++ % every)) = 0 ] || continue ;;
	esac
	rewind_round "$name" kill
	rewind_round "$name" EIO
done 3<"$work/names"
echo "$(wc -l <"$work/names") points: killed $kills times, failed $errors," \
	"went on after an error $survived, not met again $missed"
[ "$kills" -gt 8 ] || fail "only $kills kills"

echo "== written to after the safety point: refused, for no point has that"
is_stopped() { grep -q "^State:.T" "/proc/$clawback_pid/status"; }
CLAWBACK_FAULT=rewind.lock:stop clawback_start restore --in-place v@1 "${clawback_key[@]}"
wait_for 20 is_stopped
fault_rewrite
kill -CONT "$clawback_pid"
code=0
clawback_wait || code=$?
assert_equal 1 $code "exit code"
grep -q "was written to after point .*nothing was rewound" "$work/background.err" ||
	fail "$(cat "$work/background.err")"
assert_equal "$digest" "$(sha256sum <"$disk")" "the volume"

echo "== what is written and not on the device yet counts, too"
clawback backup v --type full >/dev/null	# nothing else can differ then
cp "$disk" "$work/image"
CLAWBACK_FAULT=rewind.lock:stop clawback_start restore --in-place v@latest --no-safety-point \
	"${clawback_key[@]}"
wait_for 20 is_stopped
exec {held}<>"$disk"
head -c 8192 /dev/urandom | dd of="/dev/fd/$held" bs=4096 seek=77 conv=notrunc status=none
kill -CONT "$clawback_pid"
clawback_wait || fail "$(cat "$work/background.err")"
exec {held}>&-
blockdev --flushbufs "$disk"
cmp "$disk" "$work/image" || fail "what was not on the device came after the rewind"

# Fingerprints may be gone by now, trust not.
clawback backup v --json --image-digest >"$work/backup.json"
assert_kind incremental
assert_matches_volume v "$disk"
clawback verify --data "${clawback_key[@]}" >"$work/verify" || fail "$(cat "$work/verify")"
clawback_end
