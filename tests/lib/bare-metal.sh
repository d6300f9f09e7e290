# shellcheck shell=bash disable=SC2154
# Whole machines that boot from their own disk by their own boot loader: for tests of a
# machine that is lost. Sourced after tests/lib/guest.sh and debian-image.sh.
#
#   metal_image KIND          sets metal_image to a disk image of a Debian with PostgreSQL,
#                             made once and kept, 1536 MiB:
#                             uefi: GPT, EFI system partition, /boot, LVM with root,
#                             /var/lib/postgresql and swap
#                             bios: dos table, GRUB in front of the first partition, root and
#                             /var/lib/postgresql on partitions, swap on a logical one; the
#                             last 446 MiB are free
#   metal_data FOLDER FILE    FILE becomes an ext4, label CLAWBACK, with FOLDER in it; the
#                             machine has it on /srv/data
#   metal_what FILE WORD...   the step that the machine carries out next: /srv/data/step WORD
#   metal_boot KIND FOLDER [OPTION of QEMU]...
#                             boots FOLDER/disk.img and FOLDER/data.img to the machine's own
#                             end; FOLDER/console and FOLDER/out are what it said. Output
#                             of the step is ours, its exit code metal_boot's; 99: the machine
#                             ended without it
#   metal_rescue KIND FOLDER IMAGE
#                             boots FOLDER/disk.img and FOLDER/answers.img from the rescue
#                             image, which by UEFI is a CD, by BIOS a disk, as a stick is;
#                             what its consoles said is ours
#
# To be raised when what is built here changes.
metal_layout=4
metal_packages="systemd-sysv udev lvm2 initramfs-tools zstd e2fsprogs kmod jq dosfstools fdisk
 postgresql-15 libbpf1 liburing2 libzstd1 libcurl4 libssl3 libjansson4 libexpat1 libblkid1
 libini-config5 libmicrohttpd12 libqrencode4 libhpdf-2.3.0 efibootmgr"
metal_root_uuid=0d1f7c0e-52b1-4d3a-8c55-1c1e0f9ad001
metal_boot_uuid=0d1f7c0e-52b1-4d3a-8c55-1c1e0f9ad002
metal_pg_uuid=0d1f7c0e-52b1-4d3a-8c55-1c1e0f9ad003
metal_swap_uuid=0d1f7c0e-52b1-4d3a-8c55-1c1e0f9ad004
metal_esp_uuid=C1A5-BAC1
metal_ovmf=/usr/share/OVMF
metal_parameters="ro console=ttyS0 quiet loglevel=5 panic=-1 oops=panic random.trust_cpu=on mitigations=off
 watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300 net.ifnames=0 apparmor=0 selinux=0 systemd.show_status=0"

# ---- building ------------------------------------------------------------------------
# Runs inside mmdebstrap.
metal_customize() {
	local root=$1
	printf 'MODULES=list\nFSTYPE=ext4\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\nRESUME=none\n' \
		>"$root/etc/initramfs-tools/conf.d/lab"
	printf '%s\n' virtio_pci virtio_blk ext4 dm-mod >>"$root/etc/initramfs-tools/modules"
	mkdir -p "$root/srv/data"
	echo lab >"$root/etc/hostname"
	cat >"$root/etc/systemd/system/lab-step.service" <<-'END'
		[Unit]
		RequiresMountsFor=/srv/data
		After=postgresql.service
		[Service]
		ExecStart=/bin/bash /etc/lab-step
		[Install]
		WantedBy=multi-user.target
	END
	cat >"$root/etc/lab-step" <<-'END'
		exec >/dev/ttyS1 2>&1 </dev/null
		cd /srv/data
		bash ./step $(<what)
		echo "debian-step: exit $?"
		systemctl --no-block poweroff 2>/dev/null
	END
	# An emulated machine beside others is not broken when a device takes minutes.
	mkdir -p "$root/etc/systemd/system.conf.d"
	printf '[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n' >"$root/etc/systemd/system.conf.d/lab.conf"
	ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
	ln -s /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
	chroot "$root" systemctl --quiet enable lab-step.service
	chroot "$root" systemctl --quiet disable e2scrub_reap.service fstrim.timer 2>/dev/null || true
	# What an emulated CPU need not do.
	printf 'jit = off\nautovacuum = off\nmin_wal_size = 32MB\nmax_wal_size = 64MB\n' >"$root/etc/postgresql/15/main/conf.d/lab.conf"
	chroot "$root" update-initramfs -u -k all
	rm -rf "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/etc/apt/sources.list*
}

metal_tree() {
	local version=$1 root=$2 sources=()
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ ! -s "$file" ] || sources+=("$file")
	done
	apt-config dump | grep -E '^Acquire::(http|https|Retries)' >"$root.apt" || true
	unshare --mount mmdebstrap --quiet --mode=root --variant=essential --format=directory \
		--aptopt="$root.apt" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/lib/*/libLLVM*' --dpkgopt='path-exclude=*/bitcode/*' \
		--include="linux-image-$version $metal_packages" \
		--customize-hook="bash -eu -c '. $debian_lib/debian-image.sh; . $debian_lib/bare-metal.sh; metal_customize \"\$0\"' \"\$1\"" \
		bookworm "$root" "${sources[@]}"
}

metal_ext4() { mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$@"; }
# Where a file's data lies as it lies in the image: what is zero is a hole in both.
metal_put() { dd if="$1" of="$2" bs=1M seek="$3" oflag=seek_bytes conv=sparse,notrunc status=none; }

metal_grub_cfg() {
	cat <<-END
		set timeout=0
		serial --unit=0 --speed=115200
		terminal_output serial
		search --no-floppy --fs-uuid --set=root $1
		linux $2/vmlinuz-$3 $4 ${metal_parameters//$'\n'/}
		initrd $2/initrd.img-$3
		boot
	END
}

# metal_lvm FILE TARGET ROOT_MIB PG_MIB: in a guest, LVM on the last partition, which has the
# contents of its volumes already, one after the other behind a MiB of metadata; and GRUB.
metal_lvm() {
	guest_run --udev --disk-file "$1" -- bash -euc '
		pv=$(ls /dev/vda? | tail -n 1)
		pvcreate -qq "$pv"
		vgcreate -qq system "$pv"
		lvcreate -qq -Zn -Wn -n root -L "$2"M system
		[ "$3" = 0 ] || lvcreate -qq -Zn -Wn -n pg -L "$3"M system
		lvcreate -qq -Zn -Wn -n swap -L 64M system
		mkswap -q -U "$4" /dev/system/swap
		[ "$(blkid -o value -s UUID /dev/system/root)" = "$5" ]
		mkdir -p /run/m
		mount /dev/vda2 /run/m
		mkdir -p /run/m/efi
		mount /dev/vda1 /run/m/efi
		grub-install --target="$1" --efi-directory=/run/m/efi --boot-directory=/run/m \
			--bootloader-id=debian --no-nvram --no-uefi-secure-boot
		umount /run/m/efi
		umount /run/m
		vgchange -qq -an system' - "$2" "$3" "$4" $metal_swap_uuid $metal_root_uuid </dev/null
}

# metal_boot_part TREE WORK VERSION: /boot on a partition of its own.
metal_boot_part() {
	mkdir -p "$2/boot" "$1/boot/grub"
	metal_grub_cfg $metal_boot_uuid "" "$3" root=/dev/mapper/system-root >"$1/boot/grub/grub.cfg"
	cp -a "$1/boot/." "$2/boot/"
	rm -rf "$1"/boot/* "$1"/vmlinuz* "$1"/initrd.img*
	metal_ext4 -U $metal_boot_uuid -d "$2/boot" "$2/boot.ext4" 96M
}

metal_fstab() {
	cat <<-END
		UUID=$metal_root_uuid / ext4 errors=remount-ro 0 1
		UUID=$metal_pg_uuid /var/lib/postgresql ext4 defaults 0 2
		UUID=$metal_swap_uuid none swap sw 0 0
		LABEL=CLAWBACK /srv/data ext4 defaults 0 2
	END
}

# metal_split TREE WORK: the databases to a folder of their own.
metal_split() {
	mkdir -p "$2/pg"
	mv "$1"/var/lib/postgresql/* "$2/pg/"
	chown --reference="$1/var/lib/postgresql" "$2/pg"
}

# MiB: ESP 1 to 33, /boot to 129, PV with root 768, PostgreSQL 256, swap to 1281 of 1536.
metal_uefi_disk() {
	local file=$1 tree=$2 version=$3 work=$4
	metal_fstab >"$tree/etc/fstab"
	cat >>"$tree/etc/fstab" <<-END
		UUID=$metal_boot_uuid /boot ext4 defaults 0 2
		UUID=$metal_esp_uuid /boot/efi vfat umask=0077 0 1
	END
	metal_boot_part "$tree" "$work" "$version"
	metal_split "$tree" "$work"
	truncate -s 1536M "$file"
	sfdisk -q "$file" <<-END
		label: gpt
		label-id: 7A1D3C52-0B6E-4C7B-9E0B-3D5C2A9E4F01
		start=1MiB, size=32MiB, type=uefi, name="EFI"
		start=33MiB, size=96MiB, type=linux, name="boot"
		start=129MiB, size=1152MiB, type=lvm, name="lvm"
	END
	metal_ext4 -U $metal_root_uuid -d "$tree" "$work/root.ext4" 768M
	metal_ext4 -U $metal_pg_uuid -d "$work/pg" "$work/pg.ext4" 256M
	truncate -s 32M "$work/esp"
	mkfs.vfat -n EFI -i ${metal_esp_uuid/-/} "$work/esp" >/dev/null
	metal_put "$work/esp" "$file" $((1 << 20))
	metal_put "$work/boot.ext4" "$file" $((33 << 20))
	metal_put "$work/root.ext4" "$file" $((130 << 20))
	metal_put "$work/pg.ext4" "$file" $(((130 + 768) << 20))
	metal_lvm "$file" x86_64-efi 768 256
	cp "$work/boot/vmlinuz-$version" "${file%/*}/vmlinuz"
	cp "$work/boot/initrd.img-$version" "${file%/*}/initrd"
}

# MiB: root 1 to 769, PostgreSQL to 1025, an extended partition to 1090 of 1536.
metal_bios_disk() {
	local file=$1 tree=$2 version=$3 work=$4
	metal_fstab >"$tree/etc/fstab"
	mkdir -p "$tree/boot/grub"
	metal_grub_cfg $metal_root_uuid /boot "$version" root=UUID=$metal_root_uuid >"$tree/boot/grub/grub.cfg"
	metal_split "$tree" "$work"
	truncate -s 1536M "$file"
	sfdisk -q "$file" <<-END
		label: dos
		label-id: 0xc1a5bac1
		start=1MiB, size=768MiB, type=83, bootable
		start=769MiB, size=256MiB, type=83
		start=1025MiB, size=65MiB, type=5
		start=1026MiB, size=64MiB, type=82
	END
	metal_ext4 -U $metal_root_uuid -d "$tree" "$work/root.ext4" 768M
	metal_ext4 -U $metal_pg_uuid -d "$work/pg" "$work/pg.ext4" 256M
	truncate -s 64M "$work/swap"
	mkswap -q -U $metal_swap_uuid "$work/swap"
	metal_put "$work/root.ext4" "$file" $((1 << 20))
	metal_put "$work/pg.ext4" "$file" $((769 << 20))
	metal_put "$work/swap" "$file" $((1026 << 20))
	guest_run --udev --disk-file "$file" -- bash -euc '
		mkdir -p /run/m
		mount /dev/vda1 /run/m
		grub-install --target=i386-pc --boot-directory=/run/m/boot /dev/vda
		umount /run/m' </dev/null
}

# What every kind of machine is made of is installed once.
metal_installed() {
	local version=$1 tree=$2 tar=$3
	if [ ! -e "$tar" ]; then
		metal_tree "$version" "$tree" && tar -C "$tree" --numeric-owner -cf "$tree.tar" . && mv "$tree.tar" "$tar"
		return
	fi
	mkdir "$tree" && tar -C "$tree" --numeric-owner -xf "$tar"
}

metal_build() {
	local version=$1 kind=$2 final=$3 work=$4
	rm -rf "$work"
	mkdir -p "$work/final"
	debian_say "making a machine of Debian with PostgreSQL and kernel $version, $kind"
	metal_installed "$version" "$work/tree" "${final%/*}/metal-$version-layout$metal_layout.tar" >"$work/log" 2>&1 ||
		{ tail -n 20 "$work/log" >&2; return 1; }
	echo "$version" >"$work/final/version" &&
	"metal_${kind}_disk" "$work/final/disk.img" "$work/tree" "$version" "$work" &&
	mv "$work/final" "$final" &&
	rm -rf "$work" || return 1
	find "${final%/*}" -maxdepth 1 -name 'metal-*' ! -path "$final" -mtime +30 -exec rm -rf {} +
}

metal_image() {
	local kind=$1 folder version cache=${CLAWBACK_CACHE:-${HOME:-/root}/.cache/clawback}/debian final tool lock
	for tool in mmdebstrap grub-mkrescue grub-install xorriso mkfs.vfat bsdtar; do
		command -v $tool >/dev/null || skip "no $tool: run scripts/bootstrap"
	done
	[ -e $metal_ovmf/OVMF_CODE_4M.fd ] || skip "no OVMF: run scripts/bootstrap"
	folder=$(scripts/vm-kernel "${CLAWBACK_KERNEL:-6.1}")
	version=$(<"$folder/version")
	final=$cache/metal-$kind-$version-layout$metal_layout
	mkdir -p "$cache"
	exec {lock}>"$cache/lock"
	flock -w 900 "$lock" || fail "another run has held $cache/lock for 15 minutes"
	[ -e "$final/disk.img" ] || metal_build "$version" "$kind" "$final" "$cache/building" ||
		fail "no machine could be built"
	exec {lock}>&-
	metal_image=$final
}

# ---- booting ------------------------------------------------------------------------
metal_data() { metal_ext4 -L CLAWBACK -d "$1" "$2" 1G >/dev/null; }

metal_what() {
	local file=$1
	shift
	echo "$*" >"$work/what"
	printf 'rm /what\nwrite %s /what\n' "$work/what" | debugfs -w -f - "$file" >/dev/null 2>&1
}

# The machine's life is bounded, and it dies with us. $metal_second is what it has beside its disk.
metal_machine() {
	local kind=$1 folder=$2 accel=tcg,thread=multi cpu=max firmware=()
	shift 2
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || accel=kvm cpu=host
	if [ "$kind" = uefi ]; then
		[ -e "$folder/vars" ] || cp $metal_ovmf/OVMF_VARS_4M.fd "$folder/vars"
		firmware=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=$metal_ovmf/OVMF_CODE_4M.fd"
			-drive "if=pflash,format=raw,unit=1,file=$folder/vars")
	fi
	rm -f "$folder/console" "$folder/out"
	setpriv --pdeathsig KILL timeout -k 5 "${metal_timeout:-400}" setpriv --pdeathsig KILL \
		qemu-system-x86_64 -machine q35 -accel "$accel" -cpu "$cpu" -smp 2 -m 1536 \
		-nodefaults -no-user-config -display none -no-reboot -nic none "${firmware[@]}" \
		-serial "file:$folder/console" -serial "file:$folder/out" -device virtio-rng-pci \
		-drive "file=$folder/disk.img,if=none,id=disk,format=raw,cache=unsafe,discard=unmap" \
		-device virtio-blk-pci,drive=disk,bootindex=2 \
		-drive "file=$folder/$metal_second.img,if=none,id=data,format=raw,cache=unsafe,discard=unmap" \
		-device virtio-blk-pci,drive=data "$@" </dev/null 2>"$folder/qemu.log"
}

# metal_try KIND FOLDER [OPTION]...: once more where the emulator was at fault.
metal_try() {
	local folder=$2 try code complaints file metal_second=${metal_second:-data}
	for file in disk "$metal_second" vars; do
		[ ! -e "$folder/$file"* ] || cp --sparse=always "$folder"/$file* "$folder/before.$file"
	done
	for try in 1 2 3 4; do
		code=0
		metal_machine "$@" || code=$?
		debian_emulator_fault "$folder" || break
		debian_say "the emulator's fault, boot $try: once more"
		cp --sparse=always "$folder/before.disk" "$folder/disk.img"
		cp --sparse=always "$folder/before.$metal_second" "$folder/$metal_second.img"
		[ ! -e "$folder/before.vars" ] || cp "$folder/before.vars" "$folder/vars"
	done
	rm -f "$folder"/before.*
	complaints=$(kernel_complaints "$folder/console")
	[ -z "$complaints" ] || fail "the machine's kernel complained: $complaints"
	[ $code = 0 ] || fail "the machine ended with $code: $(tail -n 5 "$folder/qemu.log" "$folder/console")"
}

metal_boot() {
	local folder=$2 code
	metal_try "$@"
	tr -d '\r' <"$folder/out" | sed 's/\x1b\[[0-9;=]*[A-Za-z]//g' | grep -v '^debian-step: exit ' || true
	code=$(sed -n 's/^debian-step: exit \([0-9]*\).*/\1/p' "$folder/out")
	return "${code:-99}"
}

metal_rescue() {
	local kind=$1 folder=$2 medium=(-drive "file=$3,if=none,id=medium,format=raw,readonly=on,media=cdrom"
		-device ide-cd,drive=medium,bootindex=1)
	if [ "$kind" = bios ]; then
		# It could be written to.
		medium=(-drive "file=$3,if=none,id=medium,format=raw,snapshot=on" -device virtio-blk-pci,drive=medium,bootindex=1)
	fi
	metal_second=answers metal_try "$kind" "$folder" "${medium[@]}"
	tr -d '\r' <"$folder/console" | sed -n '/^answers:/,$p'
}
