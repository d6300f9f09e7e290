#!/bin/bash
# A disk with boot parts, LVM and swap is lost, and recovered from its points onto disks of
# other sizes: all identifiers are what they were, every volume is what its point holds, the
# boot parts are the same bytes. And so with a second disk, that has a dos table and half of the
# volume group on a logical partition. What holds something is not touched without a word; a
# run that was killed is begun again.
#
# kernels: 6.12
# guest: udev disk=96M disk=128M disk=80M disk=48M disk=64M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

read -r old larger smaller second second_larger _ <<<"$CLAWBACK_DISKS"
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
	# But for whether it is open.
	lvs --noheadings -o lv_name,lv_uuid,lv_size,lv_attr lab | sed 's/\(-wi-a\)o/\1-/'
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

# Later there is another disk, and the volume group lies on both.
add_second() {
	sfdisk -q "$second" <<-END
		label: dos
		label-id: 0x12345678
		start=1MiB, size=8MiB, type=83, bootable
		start=9MiB, size=38MiB, type=5
		start=10MiB, size=8MiB, type=83
		start=19MiB, size=24MiB, type=8e
	END
	udevadm settle
	printf 'more boot code' | dd of="$second" conv=notrunc status=none
	mkfs.ext4 -q -L primary "${second}1"
	mkfs.ext4 -q -L logical "${second}5"
	vgextend -qq lab "${second}6"
	lvcreate -qq -Wn -n wide -l 100%FREE lab
	head -c 3M /dev/urandom | dd of=/dev/lab/wide bs=1M seek=6 oflag=direct iflag=fullblock status=none
	assert_equal 2 "$(lvs --noheadings -o seg_count lab/wide | sort -u | tr -d ' ')" "disks of the volume"
	printf '\n[disk second]\ndevice = %s\n' "$second" >>"$clawback_config"
	clawback_volume wide /dev/lab/wide
}
second_parts() {
	head -c 440 "$1" | sha256sum
	sha256sum "$1"1 "$1"5 | cut -d ' ' -f 1
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
	identities "$second" >"$work/identities-second"
	second_parts "$second" >"$work/second-parts"
	volumes_of >"$work/volumes"
	clawback detach --all >/dev/null
	lose "$old" "$second"
}
lose() {
	vgchange -qq -an lab
	for disk; do
		dd if=/dev/zero of="$disk" bs=1M oflag=direct status=none 2>/dev/null || true
		blockdev --rereadpt "$disk"
	done
	udevadm settle
}

# judge VOLUMES DISK [SECOND]: it is the machine that was lost.
judge() {
	local volumes=$1 volume
	shift
	vgchange -qq -ay lab
	udevadm settle
	diff "$work/identities" <(identities "$1") || fail "identities differ"
	diff "$volumes" <(volumes_of) || fail "LVM differs"
	diff "$work/boot-parts" <(boot_parts "$1") || fail "boot parts differ"
	sfdisk --verify "$1" | grep -q 'No errors' || fail "$(sfdisk --verify "$1")"
	if [ $# = 2 ]; then
		diff "$work/identities-second" <(identities "$2") || fail "the second disk's identities differ"
		diff "$work/second-parts" <(second_parts "$2") || fail "the second disk's partitions differ"
		sfdisk --verify "$2" | grep -q 'No errors' || fail "$(sfdisk --verify "$2")"
	fi
	for volume in root data ${2:+wide}; do
		clawback restore $volume --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
		assert_same "$work/wanted" /dev/lab/$volume
	done
	clawback restore files --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
	assert_same "$work/wanted" "${1}5"
	rm "$work/wanted"
	e2fsck -fn /dev/lab/root >/dev/null || fail "the root file system is damaged"
	lose "$@"
}

make_machine
backup machine root data files
volumes_of >"$work/volumes-alone"
sleep 1.1
alone=$(date -u +%FT%TZ)
add_second
backup machine second wide
assert_equal "data root swap wide" "$(clawback show machine --json |
	jq -r '[.disk.groups[0].lvs[].name] | sort | join(" ")')" "logical volumes, each once"
lose_machine
to=(--disks "machine:$larger second:$second_larger")

echo "== refused"
printf 'label: gpt\n,,\n' | sfdisk -q "$larger"
mkfs.ext4 -q -F -L precious "${larger}1"
assert_refused 1 "it holds a partition table (gpt), ext4 precious" recover "${to[@]}"
if is_full; then
	mount_volume "${larger}1" "$work/precious"
	assert_refused 1 "mounted on" recover --erase "${to[@]}"
	unmount_volume "$work/precious"
	assert_refused 2 "say which device each disk goes onto" recover
	e2label "${larger}1" CLAWBACK
	assert_refused 1 "rescue system or its answers" recover --erase "${to[@]}"
	e2label "${larger}1" precious
	assert_refused 1 "lies on a disk, too, of which there is no point" recover --erase --disks "machine:$larger"
	assert_refused 2 "not confirmed" clawback recover --erase "${to[@]}" "${clawback_key[@]}" </dev/null
fi
clawback recover --erase "${to[@]}" --grow --dry-run --json >"$work/plan"
jq -e '.dry_run and any(.rows[]; .point.volume == "root" and .point.number == 1)' "$work/plan" >/dev/null ||
	fail "the plan: $(cat "$work/plan")"
[ "$(blkid -p -o value -s LABEL "${larger}1")" = precious ] || fail "something was written"
if is_full; then
	echo "== killed"
	recover --erase "${to[@]}" --grow >"$work/killed" 2>&1 &
	pid=$!
	sleep $((RANDOM % 12 + 4))
	kill -KILL $pid && wait $pid || true
	tail -n 2 "$work/killed"
fi
echo "== onto larger disks, of which one grows"
recover --erase "${to[@]}" --grow | tee "$work/recovered"
grep -q '^recovered 2 disks with 4 volumes' "$work/recovered" || fail "that is not what it was to do"
[ "$(sfdisk --json "$larger" | jq '.partitiontable.partitions[5].size')" = $((99 * 2048)) ] ||
	fail "the last partition did not grow"
grep -q 'disk second: its last partition is inside an extended one' "$work/recovered" ||
	fail "that a logical partition does not grow is not told"
vgchange -qq -ay lab
[ "$(vgs --noheadings --units m --nosuffix -o vg_size lab | cut -d . -f 1)" -gt 90 ] || fail "the PV did not grow"
judge "$work/volumes" "$larger" "$second_larger"
if is_full; then
	echo "== as of before the second disk, onto a smaller one, which is the only one that is empty"
	for disk in "$old" "$larger" "$second" "$second_larger"; do mkfs.ext4 -q -F "$disk"; done
	recover --verify --at "$alone" | tee "$work/recovered"
	judge "$work/volumes-alone" "$smaller"
fi
clawback_end
