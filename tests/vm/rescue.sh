#!/bin/bash
# The rescue image boots, by BIOS and by UEFI, finds its answers on a second disk, recovers a
# lost disk onto an empty, larger one without a question, and switches the machine off: the
# table has the old GUIDs, the partitions hold what they held. What holds something is left.
#
# kernels: 6.1
# full-only: yes
# guest: host
# timeout: 1800
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/kernel-log.sh

for tool in mmdebstrap grub-mkrescue xorriso mkfs.vfat bsdtar; do
	command -v $tool >/dev/null || skip "no $tool: run scripts/bootstrap"
done
# CLAWBACK_RESCUE=FILE.iso saves making one; CLAWBACK_FIRMWARE=bios or uefi does only that.
firmwares=${CLAWBACK_FIRMWARE:-bios uefi}

# A disk with an EFI system partition and one more; this kernel reads no tables, which the
# capture does by itself.
make_lost() {
	local image=$work/lost.img
	truncate -s 64M "$image"
	sfdisk -q "$image" <<-END
		label: gpt
		label-id: 11111111-2222-4333-8444-555555555555
		start=1MiB, size=8MiB, type=uefi, uuid=11111111-2222-4333-8444-000000000001, name="EFI"
		start=9MiB, size=40MiB, type=linux, uuid=11111111-2222-4333-8444-000000000002, name="boot"
	END
	truncate -s 8M "$work/esp"
	mkfs.vfat -n ESP "$work/esp" >/dev/null
	mkdir -p "$work/files"
	head -c 12M /dev/urandom >"$work/files/vmlinuz"
	mkfs.ext4 -q -L boot -d "$work/files" "$work/boot" 40M
	printf 'boot code' | dd of="$image" conv=notrunc status=none
	dd if="$work/esp" of="$image" bs=1M seek=1 conv=notrunc status=none
	dd if="$work/boot" of="$image" bs=1M seek=9 conv=notrunc status=none
	lost=$(losetup --find --show "$image")
	defer losetup --detach "$lost"
}

# The answers' disk, with all that they name; in reality the repository is elsewhere.
make_answers() {
	mkdir -p "$work/answers"
	cp -r "$work/repository" "$work/recovery.pem" "$work/answers/"
	cat >"$work/answers/recover.conf" <<-END
		[repository]
		url = file:///run/clawback/answers/repository

		[recover]
		recovery_key = /run/clawback/answers/recovery.pem
		unattended = yes
		grow = yes
		afterwards = poweroff
	END
	mkfs.ext4 -q -L CLAWBACK -d "$work/answers" "$work/answers.img" 128M
}

# machine FIRMWARE SECONDS: once, from the image, to its own end.
machine() {
	local firmware=() accel=tcg,thread=multi cpu=max
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || accel=kvm cpu=host
	if [ "$1" = uefi ]; then
		cp /usr/share/OVMF/OVMF_VARS_4M.fd "$work/vars"
		firmware=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
			-drive "if=pflash,format=raw,unit=1,file=$work/vars")
	fi
	rm -f "$work/console"
	setpriv --pdeathsig KILL timeout -k 5 "$2" setpriv --pdeathsig KILL \
		qemu-system-x86_64 -machine q35 -accel "$accel" -cpu "$cpu" -smp 2 -m 1024 \
		-nodefaults -no-user-config -display none -no-reboot -nic none "${firmware[@]}" \
		-serial "file:$work/console" -device virtio-rng-pci \
		-drive "file=$work/rescue.iso,if=none,id=cd,format=raw,media=cdrom,readonly=on" \
		-device ide-cd,drive=cd,bootindex=1 \
		-drive "file=$work/new.img,if=none,id=new,format=raw,cache=unsafe" -device virtio-blk-pci,drive=new \
		-drive "file=$work/answers.img,if=none,id=answers,format=raw,cache=unsafe" \
		-device virtio-blk-pci,drive=answers </dev/null 2>"$work/qemu.log"
}

# rescued FIRMWARE: what it said is ours.
rescued() {
	local code=0 try
	for try in 1 2 3; do
		truncate -s 0 "$work/new.img"
		truncate -s 96M "$work/new.img"
		code=0
		machine "$1" "${rescue_timeout:-500}" || code=$?
		emulator_fault "$work/console" >/dev/null || break
		echo "the emulator's fault, boot $try: once more"
	done
	tr -d '\r' <"$work/console" | sed -n '/^answers:/,$p'
	[ $code = 0 ] || fail "the machine ended with $code: $(tail -n 5 "$work/qemu.log" "$work/console")"
}

judge() {
	grep -q '^recovered 1 disk with 0 volumes' "$work/console" || fail "it was not recovered"
	diff <(table "$work/lost.img") <(table "$work/new.img") || fail "the tables differ"
	sfdisk --verify "$work/new.img" | grep -q 'No errors' || fail "$(sfdisk --verify "$work/new.img")"
	[ "$(sfdisk --json "$work/new.img" | jq '.partitiontable.partitions[1].size')" -gt $((80 * 2048)) ] ||
		fail "the last partition did not grow"
	assert_equal 'boot code' "$(head -c 9 "$work/new.img")" "the boot code"
	cmp <(dd if="$work/new.img" bs=1M skip=1 count=8 status=none) "$work/esp" || fail "the ESP differs"
	cmp <(dd if="$work/new.img" bs=1M skip=9 count=40 status=none) "$work/boot" || fail "/boot differs"
}
table() {
	sfdisk --dump "$1" | sed -n "/^label/p; s|^$1||; s/^\([0-9].*start= *[0-9]*\), size= *[0-9]*/\1/p"
}

make_lost
clawback_begin "$work/repository" open
printf '\n[disk machine]\ndevice = %s\n' "$lost" >>"$clawback_config"
backup machine
make_answers
if [ -n "${CLAWBACK_RESCUE:-}" ]; then
	cp "$CLAWBACK_RESCUE" "$work/rescue.iso"
else
	scripts/rescue-image --level 3 --clawback "$clawback_program" "$work/rescue.iso"
fi
for firmware in $firmwares; do
	if [ "$firmware" = uefi ] && [ ! -e /usr/share/OVMF/OVMF_CODE_4M.fd ]; then
		skip "no OVMF: run scripts/bootstrap"
	fi
	echo "==== $firmware, $SECONDS s"
	rescued "$firmware"
	judge
done
