#!/bin/bash
# Power fails at any moment: dm-log-writes records every write of the file system
# that holds a file:// repository, and the recording is replayed up to many
# positions. Whatever is on the disk then, every point that can be seen restores
# exactly and verifies, and every point that was acknowledged before can be seen.
#
# kernels: 6.12
# guest: host
# timeout: 600
# full-timeout: 1800
. "$(dirname "$0")/../lib/guest.sh"

positions=12
! is_full || positions=200
points=6
mkdir "$work/share" "$work/share/mnt"
truncate -s 1G "$work/log"
truncate -s 96M "$work/base"

# ---- in the guest: the recording ----------------------------------------------------
cat >"$work/share/record.sh" <<'END'
. tests/lib/guest.sh
share=$1 points=$2
rm -rf "$work"
work=$share
. tests/lib/clawback.sh
modprobe dm-log-writes
make_volume logged log "0 $(blockdev --getsz /dev/vdb) log-writes /dev/vdb /dev/vdc"
make_linear_volume volume data /dev/vda
mark() { dmsetup message log 0 mark "$1"; }
mkfs.ext4 -q -J size=4 "$logged"
mount_at "$logged" "$share/mnt"
clawback_begin "$share/mnt/repository" open
clawback_volume v "$volume"
sync -f "$share/mnt"
mark begun
fill "$volume" 6
for ((i = 1; i <= points; i++)); do
	backup v
	clawback show "v@$i" --json | jq -r '"\(.number) \(.image_sha256)"' >>"$share/model"
	mark "point-$i"
	fill "$volume" $((i % 3)) $((i % 4))
	head -c 8192 /dev/urandom | dd of="$volume" bs=4096 seek=$((i * 77)) oflag=direct status=none
done
mark done
clawback detach --all >/dev/null
trap - EXIT	# the share is the host's to remove
unmount_volume "$share/mnt"
dmsetup remove data
dmsetup remove log
sync
END
guest_run --share "$work/share" --disk 12M --disk-file "$work/base" --disk-file "$work/log" --timeout 300 \
	-- bash "$work/share/record.sh" "$work/share" $points

# ---- here: the replay -----------------------------------------------------------------
# The log, Documentation/admin-guide/device-mapper/log-writes.rst: a super block, then
# entries of one sector each, every one followed by its data. Answers each line
# "POSITION" with the last mark once the image is as it was after that many entries.
cat >"$work/replay.py" <<'END'
import os, struct, sys
log, image = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR)
DISCARD, MARK = 4, 8
magic, version, count, sector = struct.unpack("<QQQI", os.pread(log, 28, 0))
assert magic == 0x6a736677736872 and version == 1, (hex(magic), version)
entries, at = [], sector
for _ in range(count):
    start, sectors, flags, length = struct.unpack("<QQQQ", os.pread(log, 32, at))
    mark = os.pread(log, length, at + 32).decode() if flags & MARK else None
    at += sector
    entries.append((start, sectors, flags, at, mark))
    if not flags & (DISCARD | MARK):
        at += sectors * sector
marks = [i for i, entry in enumerate(entries) if entry[4] == "begun"]
print(count, marks[0] + 1, flush=True)
done, mark = 0, ""
for line in sys.stdin:
    while done < int(line):
        start, sectors, flags, where, name = entries[done]
        done += 1
        if name is not None:
            mark = name
        elif flags & DISCARD:
            os.pwrite(image, bytes(sectors * sector), start * sector)
        else:
            os.pwrite(image, os.pread(log, sectors * sector, where), start * sector)
    print(mark, flush=True)
END
cp --sparse=always "$work/base" "$work/image"
truncate -s 0 "$work/image"
truncate -s 96M "$work/image"
coproc replay { python3 "$work/replay.py" "$work/log" "$work/image"; }
read -r entries begun <&"${replay[0]}"
echo "$entries entries, the repository was there after $begun"
[ $((entries - begun)) -gt 100 ] || fail "that is too little to mean anything"

clawback() {
	local verb=$1
	shift
	"$CLAWBACK_BUILD/clawback" "$verb" --config "$work/share/clawback.conf" "$@"
}

# The repository as a mount would show it: what the journal holds is written, then all
# of it read out. Without a loop device, for other tests take those meanwhile.
take_out() {
	cp --sparse=always "$work/image" "$work/now"
	e2fsck -E journal_only -p "$work/now" >"$work/e2fsck" 2>&1 || [ $? = 1 ] ||
		fail "position $1: $(cat "$work/e2fsck")"
	rm -rf "$work/share/mnt"
	mkdir "$work/share/mnt"
	debugfs -R "rdump / $work/share/mnt" "$work/now" >"$work/debugfs" 2>&1 &&
		[ -d "$work/share/mnt/lost+found" ] || fail "position $1: $(cat "$work/debugfs")"
}

seen=0 checked=0
check_points() {
	local acknowledged=$1 numbers number wanted got code=0
	# Before the first point the volume may not be there at all.
	clawback points v --json >"$work/points" 2>"$work/err" || code=$?
	if [ $code != 0 ]; then
		[ "$acknowledged" = 0 ] || fail "points after $acknowledged were acknowledged: $(cat "$work/err")"
		grep -q "no volume" "$work/err" || fail "looking at it: $(cat "$work/err")"
		return
	fi
	numbers=$(jq -r '.points[].number' "$work/points")
	[ "$(wc -w <<<"$numbers")" -ge "$acknowledged" ] ||
		fail "$acknowledged points were acknowledged, $(wc -w <<<"$numbers") can be seen"
	[ -n "$numbers" ] || return 0
	clawback verify >"$work/verify" 2>&1 || fail "verify: $(cat "$work/verify")"
	for number in $numbers; do
		wanted=$(sed -n "s/^$number //p" "$work/share/model")
		clawback restore "v@$number" --to "$work/restored" --force --recovery-key "$work/share/recovery.pem" \
			>/dev/null || fail "restoring point $number"
		got=$(sha256sum <"$work/restored")
		assert_equal "$wanted" "${got%% *}" "SHA-256 of point $number restored"
		seen=$((seen + 1))
	done
	checked=$((checked + 1))
}

RANDOM=$((CLAWBACK_SEED % 32768))
for ((i = 0; i < positions; i++)); do
	echo $((begun + (RANDOM * 32768 + RANDOM) % (entries - begun + 1)))
done | sort -n >"$work/positions"
while read -r position <&3; do
	echo "$position" >&"${replay[1]}"
	read -r mark <&"${replay[0]}"
	take_out "$position"
	case $mark in
	point-*) check_points "${mark#point-}" ;;
	done) check_points $points ;;
	*) check_points 0 ;;
	esac
done 3<"$work/positions"
echo "$positions positions, $checked with points, $seen points restored, all identical"
[ $checked -gt $((positions / 2)) ] || fail "too few positions had points"
