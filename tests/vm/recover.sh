#!/bin/bash
# A disk with boot parts, LVM and swap is lost, and recovered from its points onto disks of
# other sizes: all identifiers are what they were, every volume is what its point holds, the
# boot parts are the same bytes. What holds something is not touched without a word; a run
# that was killed is begun again.
#
# kernels: 6.12
# guest: udev disk=96M disk=128M disk=80M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

read -r old larger smaller _ <<<"$CLAWBACK_DISKS"
export LVM_SUPPRESS_FD_WARNINGS=1

recover() { clawback recover --yes "${clawback_key[@]}" "$@"; }

# What names things. Not sizes: those may change.
identities() {
	local disk=$1 partition
	sfdisk --dump "$disk" | sed -n "s|^$disk||; s/^label/label/p; s/size= *[0-9]*, //; s/^\([0-9]* : \)/\1/p"
	for partition in "$disk"?; do
		echo "${partition#"$disk"} $({ blkid -p -o export "$partition" || true; } | sed -n "/^\(UUID\|LABEL\|TYPE\)=/p" | tr "\n" " ")"
	done
}
volumes_of() {
	vgs --noheadings -o vg_name,vg_uuid,vg_extent_size lab
	pvs --noheadings -o pv_uuid,pe_start -S vg_name=lab
	lvs --noheadings -o lv_name,lv_uuid,lv_size,lv_attr lab
	blkid -p -o export /dev/lab/root /dev/lab/swap | grep -E '^(UUID|LABEL|TYPE)='
}

make_machine() {
	sfdisk -q "$old" <<-END
		label: gpt
		label-id: 11111111-2222-4333-8444-555555555555
		start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name="grub", attrs="LegacyBIOSBootable"
		start=2MiB, size=4MiB, type=uefi, name="EFI"
		start=6MiB, size=8MiB, type=linux, name="boot"
		start=16MiB, size=4MiB, type=swap, name="swap"
		start=20MiB, size=8MiB, type=linux, name="files"
		start=28MiB, size=48MiB, type=lvm, name="lvm"
	END
	udevadm settle
	printf 'boot code' | dd of="$old" conv=notrunc status=none
	head -c 1M /dev/urandom | dd of="${old}1" status=none
	mkfs.vfat -n ESP "${old}2" >/dev/null
	mkfs.ext4 -q -L boot "${old}3"
	# Between two partitions lies something, too.
	head -c 1M /dev/urandom | dd of="$old" bs=1M seek=14 conv=notrunc status=none
	mkswap -q -L paging "${old}4"
	head -c 8M /dev/urandom | dd of="${old}5" bs=1M oflag=direct iflag=fullblock status=none
	pvcreate -qq "${old}6"
	vgcreate -qq lab "${old}6"
	lvcreate -qq -n root -L 12M lab
	lvcreate -qq -n data -L 16M lab
	lvcreate -qq -n swap -L 4M lab
	lvextend -qq -L +4M lab/root
	mkswap -q /dev/lab/swap
	mkfs.ext4 -q -L root /dev/lab/root
	mount_volume /dev/lab/root "$work/root"
	head -c 6M /dev/urandom >"$work/root/file"
	mkdir -p "$work/root/boot"
	mount_volume "${old}3" "$work/root/boot"
	head -c 2M /dev/urandom >"$work/root/boot/vmlinuz"
	sync
	head -c 8M /dev/urandom | dd of=/dev/lab/data bs=1M oflag=direct iflag=fullblock status=none
	clawback_begin "$work/repository" open
	printf '\n[disk machine]\ndevice = %s\n' "$old" >>"$clawback_config"
	clawback_volume root /dev/lab/root
	clawback_volume data /dev/lab/data
	clawback_volume files "${old}5"
}

# Boot code, gaps, and partitions at rest are the same bytes; /boot was in use, and has its files.
boot_parts() {
	sha256sum "$1"1 "$1"2 | cut -d ' ' -f 1
	dd if="$1" bs=1M skip=14 count=2 status=none | sha256sum
	head -c 440 "$1" | sha256sum
	mount_volume "${1}3" "$work/boot"
	sha256sum <"$work/boot/vmlinuz"
	unmount_volume "$work/boot"
}

# It is gone, and nothing of it may be seen any more.
lose_machine() {
	unmount_volume "$work/root/boot"
	unmount_volume "$work/root"
	identities "$old" >"$work/identities"
	boot_parts "$old" >"$work/boot-parts"
	volumes_of >"$work/volumes"
	clawback detach --all >/dev/null
	lose lab "$old"
}
lose() {
	vgchange -qq -an "$1"
	dd if=/dev/zero of="$2" bs=1M oflag=direct status=none || true
	blockdev --rereadpt "$2"
	udevadm settle
}

# judge DISK: it is the machine that was lost.
judge() {
	vgchange -qq -ay lab
	udevadm settle
	diff "$work/identities" <(identities "$1") || fail "identities differ"
	diff "$work/volumes" <(volumes_of) || fail "LVM differs"
	diff "$work/boot-parts" <(boot_parts "$1") || fail "boot parts differ"
	sfdisk --verify "$1" | grep -q 'No errors' || fail "$(sfdisk --verify "$1")"
	for volume in root data; do
		clawback restore $volume --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
		assert_same "$work/wanted" /dev/lab/$volume
	done
	clawback restore files --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
	assert_same "$work/wanted" "${1}5"
	rm "$work/wanted"
	e2fsck -fn /dev/lab/root >/dev/null || fail "the root file system is damaged"
	lose lab "$1"
}

make_machine
backup machine root data files
lose_machine

echo "== refused"
printf 'label: gpt\n,,\n' | sfdisk -q "$larger"
mkfs.ext4 -q -F -L precious "${larger}1"
assert_refused 1 "it holds a partition table (gpt), ext4 precious" recover --disks "machine:$larger"
if is_full; then
	mount_volume "${larger}1" "$work/precious"
	assert_refused 1 "mounted on" recover --erase --disks "machine:$larger"
	unmount_volume "$work/precious"
	assert_refused 2 "say which device each disk goes onto" recover
	e2label "${larger}1" CLAWBACK
	assert_refused 1 "rescue system or its answers" recover --erase --disks "machine:$larger"
	e2label "${larger}1" precious
	assert_refused 2 "not confirmed" clawback recover --erase --disks "machine:$larger" "${clawback_key[@]}" </dev/null
fi
clawback recover --erase --disks "machine:$larger" --grow --dry-run --json >"$work/plan"
jq -e '.dry_run and any(.rows[]; .point.volume == "root" and .point.number == 1)' "$work/plan" >/dev/null ||
	fail "the plan: $(cat "$work/plan")"
[ "$(blkid -p -o value -s LABEL "${larger}1")" = precious ] || fail "something was written"
if is_full; then
	echo "== killed"
	recover --erase --disks "machine:$larger" --grow >"$work/killed" 2>&1 &
	pid=$!
	sleep $((RANDOM % 12 + 4))
	kill -KILL $pid && wait $pid || true
	tail -n 2 "$work/killed"
fi
echo "== onto a larger disk, which grows"
recover --erase --disks "machine:$larger" --grow | tee "$work/recovered"
grep -q '^recovered 1 disk with 3 volumes' "$work/recovered" || fail "that is not what it was to do"
[ "$(sfdisk --json "$larger" | jq '.partitiontable.partitions[5].size')" = $((99 * 2048)) ] ||
	fail "the last partition did not grow"
vgchange -qq -ay lab
[ "$(vgs --noheadings --units m --nosuffix -o vg_size lab | cut -d . -f 1)" -gt 90 ] || fail "the PV did not grow"
judge "$larger"
if is_full; then
	echo "== onto a smaller disk, which is the only one that is empty"
	mkfs.ext4 -q -F "$old"
	mkfs.ext4 -q -F "$larger"
	recover --verify | tee "$work/recovered"
	judge "$smaller"
fi
clawback_end
