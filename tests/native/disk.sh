#!/bin/bash
# A whole disk: its points hold table, gaps and what no volume has, exactly, and nothing of
# what need not be kept; the layout says what lies where. (The kernel has no partitions of
# this disk, so what is mounted, and what volumes lie on it, is tests/vm/disk.sh's.)
#
# timeout: 200
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 64M

# put OFFSET_MIB SIZE_MIB COMMAND [ARG]...: a partition's content, made in a file by COMMAND.
put() {
	local at=$1 size=$2
	shift 2
	rm -f "$work/part"
	truncate -s "${size}M" "$work/part"
	"$@" "$work/part" >/dev/null 2>&1
	dd if="$work/part" of="$disk" bs=1M seek="$at" conv=notrunc,fsync status=none
}
noise() { head -c 1M </dev/urandom | dd of="$1" bs=1M conv=notrunc status=none; }

sfdisk --quiet --no-reread "$disk" <<'END'
label: gpt
label-id: 01234567-89AB-4CDE-8F01-23456789ABCD
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name="bios boot"
start=4096, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="ESP ä"
start=20480, size=8192, type=0657FD6D-AB7C-4C84-B1E8-5AF4D09C2E2F
start=32768, size=32768, name=root, attrs="LegacyBIOSBootable,GUID:63"
start=65536, size=32768, name=scratch
END
head -c 440 </dev/urandom | dd of="$disk" conv=notrunc,fsync status=none
put 1 1 noise
put 2 8 mkfs.vfat -n ESPLABEL -i 12AB34CD
put 10 4 mkswap -U 6b1c4e4e-0000-4000-8000-000000000001
put 16 16 mkfs.ext4 -q -L root -U 6b1c4e4e-0000-4000-8000-000000000002
put 32 16 noise
# Between partitions, where boot loaders hide things.
printf 'hidden' | dd of="$disk" bs=1M seek=15 conv=notrunc,fsync status=none

printf '\n[disk machine]\ndevice = %s\nleave_out = 5\n' "$disk" >>"$clawback_config"

echo "== a dry run says what would be read"
clawback backup -n machine >"$work/dry"
grep -q 'machine: would read' "$work/dry" && grep -q 'LEFT OUT' "$work/dry" || fail "$(cat "$work/dry")"
[ ! -e "$work/state/volumes/machine" ] || fail "a dry run left something in the state folder"

# disk_backup KIND: a run over it, whose point is of that kind.
disk_backup() {
	clawback backup machine --json >"$work/backup.json" || fail "the backup failed"
	assert_kind "$1"
}
# assert_disk POINT [BLANK_MIB+MIB]...: restored, the disk as it is now, but for that.
assert_disk() {
	local point=$1 blank
	shift
	clawback restore "$point" --to "$work/restored" --force "${clawback_key[@]}" >/dev/null
	dd if="$disk" of="$work/wanted" bs=1M iflag=direct status=none
	for blank; do
		dd if=/dev/zero of="$work/wanted" bs=1M seek="${blank%+*}" count="${blank#*+}" \
			conv=notrunc status=none
	done
	cmp "$work/restored" "$work/wanted" || fail "$point is another disk"
}
layout() { clawback show "machine@${2:-latest}" --json | jq -r ".disk | $1"; }

echo "== table, boot partitions and gaps; not swap, nor what is left out"
# By the daemon, whose objective for a disk is a day.
clawback protect --once -o agent.rpo=1min >"$work/protect" 2>&1 || fail "$(cat "$work/protect")"
clawback status machine -o agent.rpo=1min >"$work/status"
grep -q 'objective 1 d\|objective 24' "$work/status" || fail "status: $(cat "$work/status")"
assert_equal full "$(clawback show machine --json | jq -r .kind)" "the first point"
assert_disk machine@1 10+4 32+16
sfdisk --dump "$disk" | sed '/^device:/d; s|^[^:]* : ||' >"$work/table"
sfdisk --dump "$work/restored" | sed '/^device:/d; s|^[^:]* : ||' | diff "$work/table" - ||
	fail "the table is another one"
assert_equal "gpt 01234567-89ab-4cde-8f01-23456789abcd 5" \
	"$(layout '"\(.table) \(.table_uuid) \(.partitions | length)"')" "the table"
assert_equal "empty here" "$(layout '.partitions[0].content | "\(.kind) \(.kept)"')" "bios boot"
assert_equal "ESP ä vfat ESPLABEL 12AB-34CD here" "$(layout '.partitions[1] |
	"\(.name) \(.content.type) \(.content.label) \(.content.uuid) \(.content.kept)"')" "ESP"
assert_equal "swap not 6b1c4e4e-0000-4000-8000-000000000001" \
	"$(layout '.partitions[2].content | "\(.kind) \(.kept) \(.uuid)"')" "swap"
assert_equal "0x8000000000000004 ext4 root here" "$(layout '.partitions[3] |
	"\(.flags) \(.content.type) \(.content.label) \(.content.kept)"')" "root"
assert_equal "not true" "$(layout '.partitions[4].content | "\(.kept) \(.left_out)"')" "scratch"
assert_equal "table partition partition gap partition table-end" \
	"$(layout '[.ranges[].what] | join(" ")')" "what is kept"
assert_equal still "$(layout '[.ranges[].how] | unique | join(" ")')" "how it was read"
assert_equal true "$(layout .boot_code)" "boot code"
clawback show machine >"$work/show"
grep -q 'ESPLABEL.*kept here' "$work/show" || fail "show: $(cat "$work/show")"
clawback verify machine >/dev/null
clawback status machine >"$work/status"
grep -q 'a whole disk' "$work/status" || fail "status: $(cat "$work/status")"

echo "== the next point stores what differs"
disk_backup incremental
assert_equal 0 "$(summary point.data_bytes)" "data of a disk at rest"
printf 'changed' | dd of="$disk" bs=1M seek=4 conv=notrunc,fsync status=none
disk_backup incremental
assert_equal 4096 "$(summary point.data_bytes)" "data of a disk with one change"
assert_disk machine@latest 10+4 32+16

echo "== other parts are kept: a full"
sed -i 's/^leave_out = 5/leave_out =/' "$clawback_config"
disk_backup full
assert_disk machine@latest 10+4
grep -q 'other parts' "$work/backup.json" || fail "its reason: $(cat "$work/backup.json")"

echo "== what is named must be there"
sed -i 's/^leave_out =/leave_out = 55/' "$clawback_config"
assert_refused 2 'no such partition' clawback backup machine
! clawback doctor >"$work/doctor" 2>&1 || fail "doctor finds nothing wrong"
grep -q 'BAD.*machine.*no such partition' "$work/doctor" || fail "$(cat "$work/doctor")"
sed -i 's/^leave_out = 55/leave_out =/' "$clawback_config"

echo "== what is written to while it is read makes no point"
before=$(points machine)
(while :; do
	printf '%s' "$RANDOM" | dd of="$disk" bs=1M seek=40 conv=notrunc,fsync status=none
done) &
writer=$!
defer clawback_stop $writer
assert_refused 1 'was written to while it was read' clawback backup machine -o agent.read_rate=40M
kill $writer
wait $writer || true
assert_equal "$before" "$(points machine)" "points"
disk_backup incremental
assert_disk machine@latest 10+4

echo "== a killed run is in nobody's way"
clawback_start backup machine --type full -o agent.read_rate=4M
sleep 1
kill -KILL $clawback_pid
clawback_wait 2>/dev/null || true
disk_backup incremental
assert_disk machine@latest 10+4
assert_refused 2 'disks are not tracked' clawback attach machine
assert_refused 2 'is a disk' clawback restore machine --in-place "${clawback_key[@]}"
assert_refused 2 'would become zeros' clawback restore machine --to "$disk" --in-place "${clawback_key[@]}"

echo "== logical partitions"
# Old bytes in free space are nobody's, and are not kept. The extended partition lies in the
# midst of so much of it that what leads to the logical ones is at neither end.
blkdiscard -z "$disk"
sfdisk --quiet --no-reread --wipe always "$disk" <<'END'
label: dos
label-id: 0xcafe0001
start=2048, size=8192, type=83, bootable
start=28672, size=102400, type=5
start=81920, size=8192, type=83
start=126976, size=2048, type=82
END
head -c 440 </dev/urandom | dd of="$disk" conv=notrunc,fsync status=none
# GRUB's core image.
head -c 100K </dev/urandom | dd of="$disk" bs=512 seek=1 conv=notrunc,fsync status=none
put 1 4 mkfs.ext4 -q
put 40 4 noise
disk_backup full
assert_disk machine@latest
table() { sfdisk --dump "$1" | sed '/^device:/d; s|^[^:]* : ||'; }
diff <(table "$disk") <(table "$work/restored") || fail "the table is another one"
assert_equal "dos 0xcafe0001 1 2 5 6" \
	"$(layout '"\(.table) \(.table_uuid) \([.partitions[].number] | map(tostring) | join(" "))"')" \
	"the table"
assert_equal "0x80 true" "$(layout '"\(.partitions[0].flags) \(.partitions[1].extended)"')" "flags"

echo "== no table, no disk"
blkdiscard -z "$disk"
assert_refused 2 'no partition table' clawback backup machine
clawback_end
