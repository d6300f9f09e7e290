#!/bin/bash
# A volume that is not to be trusted is compared with its last point: just what
# differs is stored, and the point is exact. Without fingerprints that are the last
# point's it is stored whole. Blocks rewritten with what they held are left out. A
# change that no mark tells of is found by a spot check, loudly, and repaired.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
mib=${CLAWBACK_RESCAN_MIB:-32}
is_full && mib=3072
clawback_begin "$work/repository" open
truncate -s "${mib}M" "$work/image"
disk=$(losetup --find --show --direct-io=on "$work/image" 2>/dev/null ||
	losetup --find --show "$work/image")
defer losetup --detach "$disk"
clawback_volume v "$disk" "spot_checks = 60000"
table=$work/state/volumes/v/fingerprints

scattered=0
# scatter PERCENT: random blocks of random data, in all that part of the volume; sets
# changed to how many bytes. Some are only touched: one byte of the old content.
scatter() {
	scattered=$((scattered + 1))
	changed=$(python3 - "$disk" "$1" "$CLAWBACK_SEED.$scattered" <<-'END'
		import os, random, sys
		path, percent, seed = sys.argv[1:]
		random.seed(seed)
		device = os.open(path, os.O_RDWR)
		blocks = os.lseek(device, 0, os.SEEK_END) // 4096
		chosen = random.sample(range(blocks), int(blocks * float(percent) / 100))
		for i, block in enumerate(chosen):
		    if i % 4:
		        os.pwrite(device, random.randbytes(4096), block * 4096)
		    else:
		        old = os.pread(device, 4096, block * 4096)
		        os.pwrite(device, bytes([old[77] ^ 1]), block * 4096 + 77)
		os.fsync(device)
		print(len(chosen) * 4096)
	END
	)
}

# rewrite FIRST COUNT: MiB of the volume, with what they hold.
rewrite() {
	dd if="$disk" of="$work/part" bs=1M skip="$1" count="$2" status=none
	dd if="$work/part" of="$disk" bs=1M seek="$1" oflag=direct status=none
}

echo "== two thirds of it data, the rest never written"
fill "$disk" $((mib * 2 / 3))
backup v
assert_kind full
clawback status v | tee "$work/status"
grep -q "fingerprints" "$work/status"

echo "== what is rewritten with the same is left out"
rewrite 10 8
scatter 0.1
backup v
assert_kind incremental
assert_equal "" "$(summary point.reason)" "reason"
left_out=$(summary unchanged_bytes)
[ "$left_out" -gt $((7 << 20)) ] && [ "$left_out" -le $((8 << 20)) ] ||
	fail "$left_out bytes were left out of 8 MiB rewritten"
assert_restores v@latest

echo "== untrusted: compared, and just what differs is stored"
clawback detach v >/dev/null
scatter 1
clawback backup v --dry-run | tee "$work/dry"
grep -q "incremental point by comparing" "$work/dry"
clawback status v --json | jq -e '.volumes[0] | .trust == "untrusted" and .fingerprints.current
	and .since' >/dev/null
backup v
assert_rescan detached
stored=$(summary point.data_bytes) all=$(summary point.stored_bytes)
echo "  changed $changed bytes; data $stored, stored $all; the whole is $((mib << 20))"
assert_equal "$changed" "$stored" "data bytes of the rescan"
[ $((all * 100)) -le $((changed * 105)) ] || fail "stored $all bytes for $changed changed ones"
assert_equal $(((mib << 20) - stored)) "$(summary unchanged_bytes)" "unchanged bytes"
assert_matches_volume v "$disk"
clawback backup v --json >"$work/backup.json"
assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "trusted again: kind and rescan"
[ "$(summary point.read_bytes)" -lt $((1 << 20)) ] || fail "it read $(summary point.read_bytes) bytes"

echo "== --type incremental takes a rescan, --type full does not"
clawback detach v >/dev/null
scatter 0.1
backup v --type incremental
assert_rescan detached
clawback detach v >/dev/null
backup v --type full
assert_kind full

echo "== the table damaged, cut short, gone, another point's: a full"
for damage in 'printf x | dd of="$table" bs=1 seek=40 conv=notrunc' 'truncate -s 50 "$table"' \
	'rm "$table"' 'cp "$work/old" "$table"'; do
	cp "$table" "$work/old.next"
	scatter 0.1
	clawback detach v >/dev/null
	eval "$damage" 2>/dev/null
	backup v
	assert_kind full
	mv "$work/old.next" "$work/old"
	assert_restores v@latest
done
clawback detach v >/dev/null
backup v
assert_rescan detached

echo "== without fingerprints: a full; they come back with the next full"
clawback detach v >/dev/null
backup v -o "volume v.fingerprints=no"
assert_kind full
[ ! -e "$table" ] || fail "the table is there still"
backup v
assert_kind incremental
[ ! -e "$table" ] || fail "a table from an incremental"
clawback detach v >/dev/null
backup v --type full
clawback detach v >/dev/null
backup v
assert_rescan detached

echo "== spot checks: nothing is found where all is well"
backup v
clawback status v --json >"$work/status"
jq -e '.volumes[0].fingerprints | .spot_checked > 1000 and .spot_mismatches == 0 and
	.miss_rate_below < 0.003' "$work/status" >/dev/null || fail "$(cat "$work/status")"

echo "== a change that passed the tracker by"
head -c 256K /dev/urandom | dd of="$work/image" bs=4096 seek=$((mib * 100)) conv=notrunc,fsync status=none
blockdev --flushbufs "$disk"
backup v -o "volume v.spot_checks=0"
assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "unnoticed without spot checks"
code=0
clawback backup v --json --image-digest >"$work/backup.json" 2>"$work/err" || code=$?
cat "$work/err"
assert_equal 13 $code "exit code of a run that found a missed change"
assert_rescan "without being marked"
[[ $(cat "$work/err") =~ block\ ([0-9]+)\ had\ changed ]] || fail "it does not name a block"
[ $((BASH_REMATCH[1] - mib * 100)) -ge 0 ] && [ $((BASH_REMATCH[1] - mib * 100)) -lt 64 ] ||
	fail "it names block ${BASH_REMATCH[1]}"
assert_matches_volume v "$disk"
clawback status v | tee "$work/status"
grep -q "SPOT CHECKS FOUND" "$work/status"
backup v
assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "well again"

echo "== the kernel does not count what is written"
iostats=/sys/block/${disk#/dev/}/queue/iostats
echo 0 >"$iostats"
scatter 1
backup v
assert_rescan "does not count"
assert_matches_volume v "$disk"
echo 1 >"$iostats"
scatter 1
backup v
assert_equal "incremental false" "$(summary point.kind) $(summary rescan)" "counted again"
assert_matches_volume v "$disk"

echo "== nobody saw it happen: since some time after the last point"
rm /sys/fs/bpf/clawback/link
clawback status v --json | jq -e '.volumes[0] | .trust == "untrusted" and .since_after == .point_time
	and (has("since") | not)' >/dev/null || fail "$(clawback status v --json)"
clawback status v | grep "untrusted since some time after" || fail "$(clawback status v)"
rm -r /sys/fs/bpf/clawback

clawback verify v >/dev/null
clawback_end
