#!/bin/bash
# A machine's disk, in use: what no volume has of it comes back to another disk with the
# same table, the same identities and the same bytes; who writes while it is read is
# noticed, and held still only for so long, also when the agent is killed meanwhile.
#
# quick-kernels: 6.12
# guest: udev 2048M disk=384M disk=384M disk=256M
# timeout: 600
# full-timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
disk=$1 other=$2
export LVM_SUPPRESS_FD_WARNINGS=1 LVM_SYSTEM_DIR=$work/lvm
mkdir "$LVM_SYSTEM_DIR"
cat >"$LVM_SYSTEM_DIR/lvm.conf" <<END
activation { monitoring = 0 }
devices { global_filter = [ "a|^${disk}[0-9]*\$|", "r|.*|" ] }
END

remove_group() {
	vgchange --quiet --quiet -an lab
	vgremove --quiet --quiet --force lab
}
close_luks() { [ ! -e /dev/mapper/sealed ] || cryptsetup close sealed; }
swap_off() { ! grep -q "^${disk}3 " /proc/swaps || swapoff "${disk}3"; }
settle() { udevadm settle --timeout 20 2>/dev/null || true; }

mkfs.ext4 -q "$3"
mount_volume "$3" "$work/repository"
sfdisk --quiet "$disk" <<'END'
label: gpt
size=2M, type=21686148-6449-6E6F-744E-656564454649, name=bios
size=34M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
size=8M, type=0657FD6D-AB7C-4C84-B1E8-5AF4D09C2E2F, name=swap
size=32M, name=boot
size=96M, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, name=pv
size=48M, name=sealed
END
settle
mkfs.vfat -n ESPLABEL "${disk}2" >/dev/null
mkswap -q "${disk}3"
mkfs.ext4 -q -L boot "${disk}4"
mount_volume "${disk}2" "$work/esp"
mount_volume "${disk}4" "$work/boot"
defer swap_off
swapon "${disk}3"
vgcreate --quiet --quiet lab "${disk}5"
defer remove_group
lvcreate --quiet --quiet -Wn -n root -L 24M lab
lvcreate --quiet --quiet -Wn -n swap -L 8M lab
lvcreate --quiet --quiet -Wn -n scratch -L 8M lab
mkfs.ext4 -q /dev/lab/root
mkswap -q /dev/lab/swap
mkfs.ext4 -q /dev/lab/scratch
mount_volume /dev/lab/root "$work/root"
echo secret | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 \
	--pbkdf-force-iterations 1000 --key-file - "${disk}6"
defer close_luks
echo secret | cryptsetup open --disable-keyring --key-file - "${disk}6" sealed
mkfs.ext4 -q /dev/mapper/sealed
mkdir -p "$work/esp/EFI/debian"
head -c 3M </dev/urandom >"$work/esp/EFI/debian/grubx64.efi"
head -c 9M </dev/urandom >"$work/boot/vmlinuz"
sync

clawback_begin "$work/repository/clawback" open
printf '\n[disk machine]\ndevice = %s\n' "$disk" >>"$clawback_config"
layout() { clawback show machine --json | jq -r ".disk | $1"; }

echo "== what would be lost is told"
assert_refused 2 'nothing keeps what is in sealed.*lab/root.*lab/scratch' clawback backup machine
clawback_volume root /dev/lab/root
clawback_volume sealed /dev/mapper/sealed
assert_refused 2 'nothing keeps what is in lab/scratch' clawback backup machine
sed -i 's|^\(device = '"$disk"'\)$|\1\nleave_out = lab/scratch|' "$clawback_config"

echo "== all of it"
clawback backup --all --json >"$work/backup.json"
assert_kind full machine
assert_equal "gpt 6 sealed lab" "$(layout '"\(.table) \(.partitions | length) " +
	"\(.crypts[0].name) \(.groups[0].name)"')" "the layout"
assert_equal "empty here,filesystem here,swap not,filesystem here,pv header,luks header" \
	"$(layout '[.partitions[].content | "\(.kind) \(.kept)"] | join(",")')" "partitions"
assert_equal "$work/esp swap $work/boot" \
	"$(layout '[.partitions[1:4][].content.mount] | join(" ")')" "mount points"
assert_equal "root=root scratch= swap=" "$(layout '[.groups[0].lvs | sort_by(.name)[] |
	"\(.name)=\(.content.volume // "")"] | join(" ")')" "volumes of LVs"
assert_equal "$(clawback show root --json | jq -r .volume_id)" \
	"$(layout '.groups[0].lvs[] | select(.name == "root").content.volume_id')" "root's id"
assert_equal "sealed" "$(layout '.crypts[0].content.volume')" "the volume on LUKS"
layout '.groups[0].metadata' | grep -q '^lab {' || fail "the metadata: $(layout '.groups[0].metadata')"
assert_equal "partition 4 1048576" "$(layout '.groups[0].pvs[0] |
	"\(.place.on) \(.place.index) \(.data_offset)"')" "the PV"
assert_equal still "$(layout '[.ranges[].how] | unique | join(" ")')" "how it was read"
clawback show machine

echo "== on another disk"
assert_refused 2 'would become zeros' clawback restore machine --to "$other" "${clawback_key[@]}"
clawback restore machine --to "$other" --force "${clawback_key[@]}" >/dev/null
settle
blockdev --rereadpt "$other"
settle
dump() { sfdisk --dump "$1" | sed '/^device:/d; s|^[^:]* : ||'; }
diff <(dump "$disk") <(dump "$other") || fail "the table is another one"
tags() { blkid -p -o export "$1" | grep -vE '^(DEVNAME|PART_ENTRY_DISK)='; }
for number in 1 2 4 5 6; do
	diff <(tags "$disk$number") <(tags "$other$number") || fail "partition $number is another one"
done
there=(--config "devices { global_filter = [ \"a|^$other|\", \"r|.*|\" ] }")
diff <(pvs --noheadings -o pv_uuid,vg_name,vg_uuid,pe_start,pv_size,vg_extent_count) \
	<(pvs "${there[@]}" --noheadings -o pv_uuid,vg_name,vg_uuid,pe_start,pv_size,vg_extent_count) ||
	fail "the PV is another one"
cmp -n $((16 << 20)) "${disk}6" "${other}6" || fail "the header of LUKS is another one"
# As it is while it is mounted, with vfat's mark that it is.
cmp <(dd if="${disk}2" bs=1M iflag=direct status=none) "${other}2" || fail "the ESP is another one"
fsck.vfat -n "${other}2" >"$work/fsck" || grep -qi 'dirty bit' "$work/fsck" || fail "$(cat "$work/fsck")"
# As a boot loader reads it, without its journal: all is where it belongs.
debugfs -R "dump /vmlinuz $work/vmlinuz" "${other}4" 2>/dev/null
cmp "$work/vmlinuz" "$work/boot/vmlinuz" || fail "/boot is another one"
e2fsck -p "${other}4" >/dev/null || [ $? = 1 ] || fail "/boot is damaged"
wipefs -qa "${other}5" "${other}6"

echo "== what is written to while it is read: held still the second time"
writer() { while :; do echo "$RANDOM" >"$1/written" && sync "$1/written"; done; }
writer_start() { writer "$1" & writer=$!; defer clawback_stop $writer; }
writer_stop() { kill $writer; wait $writer 2>/dev/null || true; }
writer_start "$work/boot"
clawback backup machine -o agent.read_rate=64M >"$work/backup.out" 2>"$work/backup.err"
grep -q 'reading it again' "$work/backup.err" || fail "it was read once: $(cat "$work/backup.err")"
assert_equal "frozen still" "$(layout '[.ranges[].how] | unique | join(" ")')" "how it was read"
assert_equal "frozen" "$(clawback show machine --json | jq -r .consistency)" "the point's consistency"
writer_stop
wrote=$(cat "$work/boot/written")
timeout 20 sh -c "echo after >'$work/boot/written'; sync '$work/boot/written'" ||
	fail "the file system is still frozen"

if is_full; then
echo "== the agent killed while it holds one still"
writer_start "$work/boot"
clawback_start backup machine -o agent.read_rate=16M
is_held() { grep -q 'reading it again' "$work/background.err" && pgrep -x clawback-hold >/dev/null; }
wait_for 150 is_held
sleep 1
kill -KILL $clawback_pid
clawback_wait 2>/dev/null || true
has_gone_on() { [ "$(cat "$work/boot/written")" != "$wrote" ]; }
wrote=$(cat "$work/boot/written")
wait_for 20 has_gone_on
writer_stop

echo "== one that cannot be held still is read as it is, and that is told"
writer_start "$work/esp"
clawback backup machine -o agent.read_rate=64M >"$work/backup.out" 2>"$work/backup.err"
writer_stop
grep -q "partition 2 (vfat, mounted on $work/esp) was written to" "$work/backup.err" ||
	fail "no warning: $(cat "$work/backup.err")"
assert_equal "2 live" "$(layout '.ranges[] | select(.how == "live") | "\(.partition) \(.how)"')" \
	"how it was read"
clawback show machine | grep -q 'WRITTEN TO WHILE' || fail "show does not tell"
fi

echo "== a table that the kernel does not go by"
echo 'size=1M' | sfdisk --quiet --no-reread --append "$disk" 2>/dev/null
assert_refused 1 'is not the one that the kernel goes by' clawback backup machine
clawback_end
