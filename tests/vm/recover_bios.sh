#!/bin/bash
# A disk that starts by BIOS, with a dos table, GRUB in front of its first partition and a
# logical partition far inside an extended one, is recovered onto a smaller disk: table, boot
# code and all that leads to partitions are the same bytes, and the new disk starts a kernel
# by its own boot loader.
#
# kernels: 6.1
# full-only: yes
# guest: host
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/kernel-log.sh

uuid=0d1f7c0e-52b1-4d3a-8c55-1c1e0f9ad0b1

# ---- in a guest: tests/vm/recover_bios.sh guest -----------------------------------------
# Not the device's own name.
table() { sfdisk --dump "$1" | sed "/^device:/d; s|^$1||"; }
names() { blkid -p -o export "$1$2" | grep -E '^(TYPE|UUID|LABEL|PART_ENTRY_UUID)='; }

in_guest() {
	local old=/dev/vda new=/dev/vdb part
	mkdir "$work/m"
	mount "${old}1" "$work/m"
	grub-install --target=i386-pc --boot-directory="$work/m/boot" $old
	umount "$work/m"
	mkswap -q -L paging "${old}5"
	clawback_begin "$work/repository" open
	printf '\n[disk machine]\ndevice = %s\n' $old >>"$clawback_config"
	clawback_volume root "${old}1"
	backup machine root
	clawback recover --yes "${clawback_key[@]}" --disks machine:$new
	diff <(table $old) <(table $new) || fail "the tables differ"
	for part in 1 5; do
		diff <(names $old $part) <(names $new $part) || fail "partition $part has other names"
	done
	assert_same $old $new $((1 << 20))
	assert_same "${old}1" "${new}1"
	clawback_end
}
if [ "${1:-}" = guest ]; then
	in_guest
	exit
fi

# ---- the disks -----------------------------------------------------------------------------
command -v grub-install >/dev/null && [ -e /usr/lib/grub/i386-pc/boot.img ] || skip "no GRUB for BIOS: run scripts/bootstrap"

# All that is started says that it was, and switches off.
make_old() {
	local folder
	folder=$(scripts/vm-kernel "${CLAWBACK_KERNEL:-6.1}")
	mkdir -p "$work/init/bin" "$work/init/proc" "$work/root/boot/grub"
	cp /bin/busybox "$work/init/bin/"
	printf '%s\n' '#!/bin/busybox sh' 'echo "started by its own loader"' '/bin/busybox poweroff -f' >"$work/init/init"
	chmod 755 "$work/init/init"
	(cd "$work/init" && find . | cpio --quiet -o -H newc) >"$work/root/boot/initrd"
	cp "$folder"/vmlinuz "$work/root/boot/vmlinuz"
	cat >"$work/root/boot/grub/grub.cfg" <<-END
		set timeout=0
		serial --unit=0 --speed=115200
		terminal_output serial
		search --no-floppy --fs-uuid --set=root $uuid
		linux /boot/vmlinuz console=ttyS0 panic=-1 mitigations=off
		initrd /boot/initrd
		boot
	END
	mkfs.ext4 -q -U $uuid -d "$work/root" "$work/ext4" 48M
	truncate -s 192M "$work/old.img"
	sfdisk -q "$work/old.img" <<-END
		label: dos
		label-id: 0xc1a5bac1
		start=1MiB, size=48MiB, type=83, bootable
		start=66MiB, size=60MiB, type=5
		start=100MiB, size=8MiB, type=82
	END
	dd if="$work/ext4" of="$work/old.img" bs=1M seek=1 conv=sparse,notrunc status=none
}

# The machine's life is bounded, and it dies with us.
start() {
	local accel=tcg,thread=multi try
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || accel=kvm
	for try in 1 2 3; do
		rm -f "$work/console"
		setpriv --pdeathsig KILL timeout -k 5 "${1:-240}" setpriv --pdeathsig KILL \
			qemu-system-x86_64 -machine q35 -accel $accel -smp 2 -m 512 -nodefaults \
			-no-user-config -display none -no-reboot -nic none -serial "file:$work/console" \
			-drive "file=$work/new.img,if=none,id=disk,format=raw,cache=unsafe" \
			-device virtio-blk-pci,drive=disk,bootindex=1 </dev/null 2>"$work/qemu.log" || true
		emulator_fault "$work/console" >/dev/null || return 0
	done
}

make_old
truncate -s 128M "$work/new.img"
guest_run --udev --disk-file "$work/old.img" --disk-file "$work/new.img" -- bash tests/vm/recover_bios.sh guest </dev/null
start
grep -a 'started by its own loader' "$work/console" ||
	fail "it does not start: $(tail -n 3 "$work/qemu.log" "$work/console")"
