#!/bin/bash
# Memory that runs out, at every size from far too little to enough: a run says so and
# fails, or it works; no mark is lost, nothing crashes, no wrong point shows.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 24M
clawback_volume v "$disk"
fill "$disk" 16
backup v
steps=24
! is_full || steps=120

# Address space is what malloc, threads and buffers all take from.
limited() {
	local kib=$1
	shift
	(ulimit -v "$kib" && exec "$clawback_program" "$@" --config "$clawback_config")
}
enough=
for kib in 40000 60000 80000 120000 200000 400000 800000 1600000; do
	# As below: a run that has nothing to read takes less.
	fill "$disk" 2
	limited $kib backup v >/dev/null 2>&1 || continue
	enough=$kib
	break
done
[ -n "$enough" ] || fail "a run needs more than 1.6 GiB of addresses"
echo "a run works with $enough KiB of addresses"

failed=0 worked=0
for ((i = 1; i <= steps; i++)); do
	kib=$((8000 + (enough + enough / 10 - 8000) * i / steps))
	fill "$disk" 2 $((i % 14))
	code=0
	limited $kib backup v >"$work/out" 2>"$work/err" || code=$?
	case $code in
	0) worked=$((worked + 1)) ;;
	1) failed=$((failed + 1))
		[ -s "$work/err" ] || fail "$kib KiB: it failed without a word" ;;
	# The loader itself found no room: not ours to say.
	127) grep -q "shared\|allocate" "$work/err" || fail "$kib KiB: $(cat "$work/err")" ;;
	*) fail "$kib KiB: exit code $code: $(cat "$work/err")" ;;
	esac
	# Now and then a look: the volume's newest point is never wrong.
	if [ $((i % 6)) = 0 ]; then
		backup v
		assert_kind incremental
		assert_equal "" "$(summary point.reason)" "why not trusted"
		assert_matches_volume v "$disk"
	fi
done
echo "$failed failed, $worked worked"
[ $failed -gt 2 ] && [ $worked -gt 0 ] || fail "the limits mean nothing"

echo "== restoring and verifying, too"
failed=0 worked=0
for ((i = 1; i <= steps; i += 2)); do
	for verb in "restore v --to $work/restored --force" "verify --data"; do
		code=0
		# shellcheck disable=SC2086
		limited $((8000 + (6 * enough - 8000) * i / steps)) $verb "${clawback_key[@]}" \
			>"$work/out" 2>"$work/err" || code=$?
		case $code in
		0) worked=$((worked + 1)) ;;
		1) failed=$((failed + 1)); [ -s "$work/err" ] || fail "$verb failed without a word" ;;
		127) ;;
		*) fail "$verb: exit code $code: $(cat "$work/out" "$work/err")" ;;
		esac
		[ $code != 0 ] || [ "${verb%% *}" != restore ] || assert_same "$work/restored" "$disk"
	done
done
echo "$failed failed, $worked worked"
[ $worked -gt 0 ] || fail "nothing worked"
clawback_end
