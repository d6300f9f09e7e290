#!/bin/bash
# The rescue image boots, by BIOS and by UEFI, finds its answers on a second disk, recovers a
# lost disk onto an empty, larger one, and the machine is switched off: the table has the old
# GUIDs, the partitions hold what they held. By UEFI from a folder, without a question. By
# BIOS from a real S3 server over the network, with an authority of its own: the answers, on a
# vfat, have a wrong passphrase first; what the console says then helps.
#
# kernels: 6.1
# full-only: yes
# guest: host
# timeout: 2400
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/kernel-log.sh

for tool in mmdebstrap grub-mkrescue xorriso mkfs.vfat mcopy bsdtar radosgw; do
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

# The same repository in a real S3 server, and answers as people keep them: on a stick.
make_s3() {
	RGW_LIFE_SECONDS=2300 tests/store/rgw start "$work/rgw" || fail "the S3 server did not start"
	defer tests/store/rgw stop "$work/rgw"
	# shellcheck source=/dev/null
	. "$work/rgw/env"
	export no_proxy='*'
	mkdir -p "$work/stick"
	cp "$RGW_CA" "$work/stick/ca.pem"
	cp "$RGW_CREDENTIALS" "$work/stick/credentials"
	cp "$work/protected.pem" "$work/stick/recovery.pem"
	cp "$work/passphrase" "$work/stick/right"
	echo "not this one" >"$work/stick/passphrase"
	s3_config "$RGW_HTTPS" "$work/stick" >"$work/s3.conf"
	printf 'recipient = %s\n\n[agent]\nstate = %s\n\n[disk machine]\ndevice = %s\n' \
		"$work/recovery.pem.pub" "$work/s3-state" "$lost" >>"$work/s3.conf"
	"$clawback_program" init --config "$work/s3.conf" >"$work/init.out"
	"$clawback_program" backup --config "$work/s3.conf" machine
	{
		s3_config "https://10.0.2.2:${RGW_HTTPS##*:}" /run/clawback/answers
		echo "fingerprint = $(sed -n 's/^fingerprint: *//p' "$work/init.out")"
		printf '\n[recover]\nrecovery_key = %s\npassphrase_file = %s\nunattended = yes\ngrow = yes\n' \
			/run/clawback/answers/recovery.pem /run/clawback/answers/passphrase
	} >"$work/stick/recover.conf"
	truncate -s 33M "$work/stick.img"
	mkfs.vfat -n CLAWBACK "$work/stick.img" >/dev/null
	mcopy -i "$work/stick.img" "$work"/stick/* ::
}
# s3_config ENDPOINT FOLDER
s3_config() {
	cat <<-END
		[repository]
		url = s3://$RGW_BUCKET/machines/lost
		endpoint = $1
		path_style = yes
		credentials_file = $2/credentials
		ca_file = $2/ca.pem
		retries = 1
	END
}

# machine FIRMWARE SECONDS ANSWERS NIC: once, from the image, to its own end; its console can
# be typed to.
machine() {
	local firmware=() accel=tcg,thread=multi cpu=max
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || accel=kvm cpu=host
	if [ "$1" = uefi ]; then
		cp /usr/share/OVMF/OVMF_VARS_4M.fd "$work/vars"
		firmware=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
			-drive "if=pflash,format=raw,unit=1,file=$work/vars")
	fi
	setpriv --pdeathsig KILL timeout -k 5 "$2" setpriv --pdeathsig KILL \
		qemu-system-x86_64 -machine q35 -accel "$accel" -cpu "$cpu" -smp 2 -m 1024 \
		-nodefaults -no-user-config -display none -no-reboot -nic "$4" "${firmware[@]}" \
		-chardev stdio,id=serial,signal=off -serial chardev:serial -device virtio-rng-pci \
		-drive "file=$work/rescue.iso,if=none,id=cd,format=raw,media=cdrom,readonly=on" \
		-device ide-cd,drive=cd,bootindex=1 \
		-drive "file=$work/new.img,if=none,id=new,format=raw,cache=unsafe" -device virtio-blk-pci,drive=new \
		-drive "file=$3,if=none,id=answers,format=raw,cache=unsafe" \
		-device virtio-blk-pci,drive=answers <"$work/keys" >"$work/console" 2>"$work/qemu.log"
}

# rescued FIRMWARE ANSWERS NIC [TALK]: what it said is ours.
rescued() {
	local code=0 try pid
	[ -p "$work/keys" ] || mkfifo "$work/keys"
	for try in 1 2 3; do
		truncate -s 0 "$work/new.img"
		truncate -s 96M "$work/new.img"
		code=0
		: >"$work/console"
		exec 7<>"$work/keys"
		{ machine "$1" "${rescue_timeout:-800}" "$2" "$3" 7>&- || exit; } &
		pid=$!
		[ -z "${4:-}" ] || "$4" $pid || echo "the console was left early"
		wait $pid || code=$?
		exec 7>&-
		emulator_fault "$work/console" >/dev/null || break
		echo "the emulator's fault, boot $try: once more"
	done
	plain | sed -n '/^answers:/,$p'
	[ $code = 0 ] || fail "the machine ended with $code: $(tail -n 5 "$work/qemu.log" "$work/console")"
}

# The console in plain lines.
plain() { tr -d '\r' <"$work/console" | sed 's/\x1b\[?2004[hl]//g'; }
# says PID PATTERN: until the console has said so, if the machine lives.
says() {
	until plain | grep -q -e "$2"; do
		kill -0 "$1" 2>/dev/null || return 1
		sleep 1
	done
}
types() { printf '%s\n' "$1" >&7; }

# What failed by the answers is told, with what to do; and it can be done there.
talk() {
	says "$1" '^clawback-rescue: recovery ended with' && says "$1" 'rescue# ' || return 1
	types 'recover --config /etc/clawback/recover.conf -o repository.ca_file=/etc/ssl/certs/ca-certificates.crt; echo "then $?"'
	says "$1" '^then [0-9]' || return 1
	types 'echo "screens $(grep -a -c "rescue system" /dev/vcs1)"'
	says "$1" '^screens [0-9]' || return 1
	types 'sed -i "s,/passphrase$,/right," /etc/clawback/recover.conf'
	types 'recover --config /etc/clawback/recover.conf; echo "last $?"'
	says "$1" '^last [0-9]' || return 1
	types poweroff
}
judge_talk() {
	local said=$work/said
	plain >"$said"
	grep -q '^answers: recover.conf on /dev/vd' "$said" || fail "no answers were found"
	grep -q 'recovery ended with 12' "$said" || fail "a wrong passphrase was no failure of a key"
	grep -q '^a key or passphrase is wrong: recovery_key, passphrase_file' "$said" &&
		grep -q 'mend it (vi /etc/clawback/recover.conf), then: recover --config' "$said" ||
		fail "the console does not tell what to do"
	grep -q 'authority of your own, name that authority.s certificate (ca_file)' "$said" &&
		grep -q '^then 1$' "$said" || fail "a certificate of no known authority was no failure"
	grep -q '^screens 1$' "$said" || fail "the screen has no session of its own"
	grep -q '^last 0$' "$said" || fail "mended at the console, it failed"
	! grep -q -e "$RGW_SECRET_KEY" -e "$(cat "$work/passphrase")" "$said" || fail "a secret was told"
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
clawback_begin "$work/repository"
cp "$work/recovery.pem" "$work/protected.pem"
open_recovery_key
printf '\n[disk machine]\ndevice = %s\n' "$lost" >>"$clawback_config"
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
	if [ "$firmware" = uefi ]; then
		backup machine
		make_answers
		rescued uefi "$work/answers.img" none
	else
		make_s3
		rescued bios "$work/stick.img" user,model=e1000 talk
		judge_talk
	fi
	judge
done
