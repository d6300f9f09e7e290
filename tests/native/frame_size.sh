#!/bin/bash
# frame_size: a run and the daemon cut frames as they are told. One chain may have frames of
# all sizes: every point of it restores, whatever its kind; rewinding and pruning work as ever.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
RANDOM=$((CLAWBACK_SEED % 32768))
sizes=(4K 8K 16K 32K 64K 128K 256K 512K 1M)
mib=4 turns=6
! is_full || { mib=64 turns=40; }
clawback_begin "$work/repository" open

# frames VOLUME@POINT: how many a restore opens.
frames() {
	clawback restore "$1" --to "$work/none" --dry-run --json "${clawback_key[@]}" |
		jq -r 'select(.message_type == "dry_run") | .frames'
}
bytes_of() { numfmt --from=iec "$1"; }

echo "== a full has as many frames as its bytes make"
make_disk disk "${mib}M"
clawback_volume v "$disk" "spot_checks = 4"
fill "$disk" "$mib"
number=0
for size in 4K 64K 1M default; do
	options=(-o "volume v.frame_size=$size")
	[ $size != default ] || options=() size=256K
	backup v --type full "${options[@]}"
	number=$((number + 1))
	assert_equal $((mib * 1048576 / $(bytes_of "$size"))) "$(frames "v@$number")" "frames of $size"
	assert_restores "v@$number"
done

echo "== the daemon, and a group's volumes each as it is told"
make_disk a 4M
make_disk b 4M
fill "$a" 4
fill "$b" 4
clawback_volume a "$a" group=g frame_size=32K
clawback_volume b "$b" group=g frame_size=256K
clawback_start protect -o "group g.rpo=1h"
has_points() { [ "$(points a 2>&1)$(points b 2>&1)" = "1 1 " ]; }
wait_for 30 has_points
kill -TERM "$clawback_pid"
clawback_wait
assert_equal "128 16" "$(frames a@1) $(frames b@1)" "frames of what the daemon made"
for name in a b; do
	clawback restore "$name@1" --to "$work/$name" "${clawback_key[@]}" >/dev/null
	cmp "$work/$name" "${!name}" || fail "$name is not what its point holds"
done

echo "== $turns turns, each of another size"
scatter() {
	python3 - "$1" "$RANDOM" <<-'END'
	import os, random, sys
	random.seed(int(sys.argv[2]))
	device = os.open(sys.argv[1], os.O_RDWR)
	blocks = os.lseek(device, 0, os.SEEK_END) // 4096
	for _ in range(random.choice([3, 40])):
	    count = random.choice([1, 1, 2, 9, 300])
	    at = random.randrange(blocks - count)
	    os.pwrite(device, random.choice([bytes, random.randbytes])(count * 4096), at * 4096)
	os.fsync(device)
	END
}
kinds=(incremental incremental differential synthetic full)
for ((turn = 0; turn < turns; turn++)); do
	scatter "$disk"
	kind=${kinds[RANDOM % 5]} size=${sizes[RANDOM % 9]}
	backup v --type "$kind" -o "volume v.frame_size=$size"
	number=$(summary point.number)
	assert_matches_volume v "$disk"
	cp --sparse=always "$disk" "$work/image.$number"
	if [ $((RANDOM % 3)) = 0 ]; then
		to=$(shuf -n 1 -e $(seq 5 "$number"))
		[ -e "$work/image.$to" ] || continue
		clawback restore --in-place "v@$to" --no-safety-point "${clawback_key[@]}" >/dev/null
		blockdev --flushbufs "$disk"
		cmp "$disk" "$work/image.$to" || fail "rewound to $to it is another"
		echo "  rewound to $to"
	fi
done

echo "== pruned, repacked, verified"
clawback forget v --keep-last 3 >/dev/null
clawback prune v --grace 0s >/dev/null
for number in $(points v); do
	assert_restores "v@$number"
done
clawback verify --data "${clawback_key[@]}" >"$work/verify" || fail "$(cat "$work/verify")"
clawback_end
