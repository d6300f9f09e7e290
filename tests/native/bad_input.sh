#!/bin/bash
# What is wrong with keys, objects and stores is said clearly, with its own exit
# code, and nothing crashes: wrong passphrase and key, flipped bits anywhere,
# truncated, swapped, replayed, missing and foreign objects, a full disk.
#
# timeout: 600
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
flips=60
! is_full || flips=2000

truncate -s 24M "$work/image"
device=$(losetup --find --show --direct-io=on "$work/image")
defer losetup -d "$device"
repository=$work/repository
clawback_begin "$repository"
clawback_volume v "$device"
small_segments=(-o agent.segment_size=1M)
fill "$device" 6
backup v "${small_segments[@]}" --type full
fill "$device" 3 2
backup v "${small_segments[@]}"
fill "$device" 1 20
backup v "${small_segments[@]}"
assert_equal "1 2 3 " "$(points v)" "the points"
assert_restores v@2
assert_matches_volume v "$device"
clawback verify --data "${clawback_key[@]}" >/dev/null
cp -a "$repository" "$work/good"
id=$(cd "$repository" && echo *-*-*-*-*)

again() { rm -rf "$repository"; cp -a "$work/good" "$repository"; }
restore_latest() { clawback restore "v@${1:-3}" --to "$work/out" --force "${clawback_key[@]}"; }
verify_data() { clawback verify --data "${clawback_key[@]}"; }

echo "== keys"
(umask 077; echo "another passphrase" >"$work/wrong")
assert_refused 12 "passphrase" clawback restore v --to "$work/out" \
	--recovery-key "$work/recovery.pem" --passphrase-file "$work/wrong"
"$clawback_program" keygen --out "$work/other.pem" --passphrase-file "$work/wrong" >/dev/null
assert_refused 12 "not sealed to this recovery key" clawback restore v --to "$work/out" \
	--recovery-key "$work/other.pem" --passphrase-file "$work/wrong"
assert_refused 12 "recovery-key" clawback restore v --to "$work/out"
assert_refused 12 "recovery-key" clawback verify --data
assert_refused 1 "missing.pem" clawback restore v --to "$work/out" \
	--recovery-key "$work/missing.pem" --passphrase-file "$work/passphrase"
[ ! -e "$work/out" ] || fail "a refused restore made its target"

echo "== targets"
truncate -s 1M "$work/small"
small=$(losetup --find --show "$work/small")
defer losetup -d "$small"
assert_refused 1 "at least as large" clawback restore v --to "$small" "${clawback_key[@]}"
echo content >"$work/out"
assert_refused 1 "force" clawback restore v --to "$work/out" "${clawback_key[@]}"
assert_equal content "$(cat "$work/out")" "the file that was not to be replaced"

echo "== $flips flipped bits"
open_recovery_key	# hundreds of runs: without turning the passphrase into a key
cat >"$work/flip.py" <<'END'
import os, random, sys
root, seed = sys.argv[1], sys.argv[2]
random.seed(seed)
files = sorted(os.path.join(d, f) for d, _, fs in os.walk(root) for f in fs)
# Every kind of object its share, and every object by its size.
path = random.choice(files) if random.random() < 0.6 else \
    random.choices(files, [os.path.getsize(f) for f in files])[0]
at = random.randrange(os.path.getsize(path))
if random.random() < 0.3:
    at = min(at, random.randrange(4096))
at = min(at, os.path.getsize(path) - 1)
bit = random.randrange(8)
with open(path, "r+b") as f:
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 1 << bit]))
print(os.path.relpath(path, root), at, bit)
END
for ((i = 0; i < flips; i++)); do
	where=$(python3 "$work/flip.py" "$repository" "$CLAWBACK_SEED.$i")
	code=0
	verify_data >"$work/verify.out" 2>&1 || code=$?
	# A version that it does not know may be a later one's: damage or not, it cannot tell.
	[ $code = 13 ] || { [ $code = 1 ] && grep -q "has format version" "$work/verify.out"; } ||
		fail "flip $i at $where: verify exits with $code: $(cat "$work/verify.out")"
	if [ $((i % 10)) = 0 ]; then
		code=0
		restore_latest >"$work/restore.out" 2>&1 || code=$?
		case $code in
		# To repeat it would not help.
		13) ! grep -q "again" "$work/restore.out" || fail "bad advice: $(cat "$work/restore.out")" ;;
		# A flip in what this point does not need.
		1) grep -q "has format version" "$work/restore.out" ||
			fail "flip $i at $where: restore fails with $(cat "$work/restore.out")" ;;
		0) cmp -s "$work/out" "$work/image" || fail "flip $i at $where: restored wrong data" ;;
		*) fail "flip $i at $where: restore exits with $code: $(cat "$work/restore.out")" ;;
		esac
	fi
	read -r path _ <<<"$where"
	cp -a "$work/good/$path" "$repository/$path"
done
verify_data >/dev/null

echo "== whole objects"
segment=$(cd "$repository" && find "$id/segments" -type f | sort | head -n 1)
other=$(cd "$repository" && find "$id/segments" -type f | sort | sed -n 2p)
truncate -s -100 "$repository/$segment"
assert_refused 13 "" verify_data
assert_refused 13 "" restore_latest
again
rm "$repository/$segment"
assert_refused 13 "" verify_data
assert_refused 13 "missing.*partial restore of no use" restore_latest
again
cp "$work/good/$other" "$repository/$segment"
cp "$work/good/$segment" "$repository/$other"
assert_refused 13 "" verify_data
assert_refused 13 "" restore_latest
again
cp "$work/good/$id/points/0000000002" "$repository/$id/points/0000000003"
assert_refused 13 "another point" restore_latest
assert_refused 13 "" verify_data
again
rm "$repository/$id/points/0000000002"
assert_refused 13 "missing" restore_latest
assert_refused 13 "" verify_data
again
truncate -s 40 "$repository/$id/points/0000000003"
assert_refused 13 "short" restore_latest
again
rm "$repository/clawback.json"
assert_refused 10 "clawback init" clawback backup v
again

echo "== another host's signature"
cat >"$work/other.conf" <<END
[repository]
url = file://$work/others
recipient = $work/recovery.pem.pub
[agent]
state = $work/others-state
[volume v]
device = $device
END
"$clawback_program" init --config "$work/other.conf" >/dev/null
mkdir -p "$work/others-state/volumes/v"
cp "$work/state/volumes/v/state.json" "$work/others-state/volumes/v/"
"$clawback_program" backup --config "$work/other.conf" v --type full >/dev/null
cp "$work/others/$id/points/0000000001" "$repository/$id/points/0000000001"
assert_refused 13 "no host of this repository signed it" clawback show v@1
again
# The whole repository replaced by somebody who has the recovery public key.
rm -rf "$repository"; cp -a "$work/others" "$repository"
assert_refused 13 "fingerprint" clawback restore v --to "$work/out" --force "${clawback_key[@]}"
assert_refused 13 "fingerprint" clawback backup v
again

echo "== a rolled-back repository"
rm "$repository/$id/points/0000000003"
fill "$device" 1
assert_refused 13 "rolled back" clawback backup v
again

echo "== a full disk"
mkdir "$work/little"
mount -t tmpfs -o size=4M none "$work/little"
defer umount "$work/little"
little=(--repository "file://$work/little/r" --state "$work/little-state")
clawback init "${little[@]}" >/dev/null
clawback detach v >/dev/null
assert_refused 1 "pace" clawback backup v "${little[@]}"
assert_equal "" "$(find "$work/little" -name '.tmp*')" "temporary files left"
clawback status "${little[@]}" --json | jq -e '.volumes[0].point == 0' >/dev/null
mount -o remount,size=64M "$work/little"
clawback backup v "${little[@]}" >/dev/null
clawback verify "${little[@]}" --data "${clawback_key[@]}"
clawback detach "${little[@]}" v >/dev/null
clawback_end 2>/dev/null || true
