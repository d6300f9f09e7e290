# shellcheck shell=bash disable=SC2154
# A whole Debian, made of Debian's own packages, whose root file system is a logical
# volume or a plain partition, and a machine that boots it with Debian's own initramfs:
# for what only a real root shows. Sourced after tests/lib/guest.sh.
#
#   debian_image                    sets debian_image to a folder that holds vmlinuz, lvm.img
#                                   and plain.img, for $CLAWBACK_KERNEL; made once, kept in
#                                   scripts/vm-kernel's cache
#   debian_disks FOLDER [lvm|plain] puts this machine's disks into FOLDER: root.img, a copy
#                                   of the image's, and data.img, an ext4 of 512 MiB that
#                                   holds what is in FOLDER/data
#   debian_boot FOLDER PARAMETERS STEP [ARG]...
#                                   boots these disks, with PARAMETERS for the kernel.
#                                   /srv/data/step STEP [ARG]... runs once the system is
#                                   up; its output is ours, its exit code debian_boot's;
#                                   then the machine is shut down
#
#   debian_initramfs FOLDER         makes the initramfs of the next boots, as update-initramfs
#                                   does in the machine, where it takes a minute or two; the
#                                   disk stays what it is
#
# What STEP leaves on the disks is there at the next boot. A machine that ends without
# STEP having ended, as by a power cut, is exit code 99. The console of the last boot is
# FOLDER/console.
#
# In the image: on /dev/vda the root file system, ext4, 640 MiB, mounted read-only by the
# initramfs as Debian does. It is the logical volume "root" of LVM's group "system", with
# the kernel's parameter root=/dev/mapper/system-root; or the one partition of a GPT, with
# root=UUID=$debian_root_uuid (its PARTUUID is $debian_root_partuuid). /dev/vdb is mounted
# on /srv/data. systemd, udev, lvm2, initramfs-tools, GRUB's tools and the libraries of
# clawback are there.
#
# The initramfs is read from the root file system before each boot, as a boot loader
# does: what update-initramfs makes in one boot counts in the next,
# but for debian_initramfs. What lies in FOLDER/initrd.over, if that is there, takes the
# place of files in it. It checks the root file system, as a real machine's does.

# To be raised when what is built here changes.
debian_layout=4
debian_root_uuid=5f1c2b1e-7a44-4be0-9d0e-3c0f6d6f7a01
debian_root_partuuid=0b6f4c52-31d8-4f7e-8a55-1f2a9e6c7d02
# Where both kinds of disk have it.
debian_root_offset=$((1 << 20))
debian_packages="systemd-sysv udev lvm2 initramfs-tools zstd grub-common e2fsprogs xfsprogs kmod jq
 libbpf1 liburing2 libzstd1 libcurl4 libssl3 libjansson4 libexpat1 libblkid1 libini-config5
 libmicrohttpd12"

debian_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/kernel-log.sh
. "$debian_lib/kernel-log.sh"

debian_say() { echo "debian-image: $*" >&2; }

# ---- building --------------------------------------------------------------------
# Runs inside mmdebstrap, where /proc and /dev are: the initramfs looks at fstab.
debian_customize() {
	local root=$1
	printf '%s / ext4 defaults,errors=remount-ro 0 1\n%s /srv/data ext4 defaults 0 0\n' \
		UUID=$debian_root_uuid /dev/vdb >"$root/etc/fstab"
	# Small, for an emulated CPU makes it and loads it.
	printf 'MODULES=list\nFSTYPE=ext4\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n' >"$root/etc/initramfs-tools/conf.d/lab"
	printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
	mkdir -p "$root/srv/data"
	echo lab >"$root/etc/hostname"
	cat >"$root/etc/systemd/system/lab-step.service" <<-'END'
		[Unit]
		RequiresMountsFor=/srv/data
		[Service]
		ExecStart=/bin/bash /etc/lab-step
		[Install]
		WantedBy=multi-user.target
	END
	cat >"$root/etc/lab-step" <<-'END'
		exec >/dev/ttyS1 2>&1 </dev/null
		read -r line </proc/cmdline
		line=${line#*lab.step=}
		cd /srv/data
		eval "set -- $(base64 -d <<<"${line%% *}")"
		bash ./step "$@"
		echo "debian-step: exit $?"
		systemctl --no-block poweroff 2>/dev/null
	END
	# Emulated, they take seconds and are of no use here.
	ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
	ln -s /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
	chroot "$root" systemctl --quiet enable lab-step.service
	chroot "$root" systemctl --quiet disable e2scrub_reap.service fstrim.timer 2>/dev/null || true
	chroot "$root" update-initramfs -u -k all
	rm -rf "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/etc/apt/sources.list*
}

# The package sources are the ones of this machine, whatever they are.
debian_tree() {
	local version=$1 root=$2 sources=()
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ ! -s "$file" ] || sources+=("$file")
	done
	apt-config dump | grep -E '^Acquire::(http|https|Retries)' >"$root.apt" || true
	unshare --mount mmdebstrap --quiet --mode=root --variant=essential --format=directory \
		--aptopt="$root.apt" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--include="linux-image-$version $debian_packages" \
		--customize-hook="bash -eu -c '. $debian_lib/debian-image.sh; debian_customize \"\$0\"' \"\$1\"" \
		bookworm "$root" "${sources[@]}"
}

debian_plain_disk() {
	local file=$1 ext4=$2
	truncate -s 704M "$file"
	sfdisk -q "$file" <<-END
		label: gpt
		start=$((debian_root_offset / 512)), size=640M, uuid=$debian_root_partuuid, name=root
	END
	dd if="$ext4" of="$file" bs=1M seek=$debian_root_offset oflag=seek_bytes conv=sparse,notrunc status=none
}

# Device-mapper is the guests', so it is a guest that makes the logical volume.
debian_lvm_disk() {
	local file=$1 ext4=$2
	truncate -s 704M "$file"
	guest_run --disk-file "$file" --disk-file "$ext4" -- bash -euc '
		export DM_DISABLE_UDEV=1
		pvcreate -qq /dev/vda
		vgcreate -qq system /dev/vda
		lvcreate -qq -Zn -Wn -n root -L 640M system 2>/dev/null
		dd if=/dev/vdb of=/dev/mapper/system-root bs=1M iflag=direct conv=sparse,fsync status=none
		vgchange -qq -an system' </dev/null
}

debian_build() {
	local version=$1 final=$2 work=$3
	rm -rf "$work"
	mkdir -p "$work/final"
	debian_say "installing Debian with kernel $version"
	debian_tree "$version" "$work/tree" >"$work/log" 2>&1 ||
		{ tail -n 20 "$work/log" >&2; return 1; }
	cp "$work/tree/boot/vmlinuz-$version" "$work/final/vmlinuz" &&
	echo "$version" >"$work/final/version" &&
	# Nothing is left to be written later, when it would count.
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 -U $debian_root_uuid -d "$work/tree" \
		"$work/ext4" 640M >"$work/log" &&
	debian_plain_disk "$work/final/plain.img" "$work/ext4" &&
	debian_lvm_disk "$work/final/lvm.img" "$work/ext4" &&
	mv "$work/final" "$final" &&
	rm -rf "$work" || return 1
	# Superseded ones go, unless a test may still be copying them.
	find "${final%/*}" -maxdepth 1 -name '*-layout*' ! -path "$final" -mtime +30 -exec rm -rf {} +
}

debian_image() {
	local folder version cache=${CLAWBACK_CACHE:-${HOME:-/root}/.cache/clawback}/debian final
	command -v mmdebstrap >/dev/null || skip "no mmdebstrap: run scripts/bootstrap"
	folder=$(scripts/vm-kernel "${CLAWBACK_KERNEL:-6.1}")
	version=$(<"$folder/version")
	final=$cache/$version-layout$debian_layout
	mkdir -p "$cache"
	exec {debian_lock}>"$cache/lock"
	flock -w 900 "$debian_lock" || fail "another run has held $cache/lock for 15 minutes"
	[ -e "$final/lvm.img" ] || debian_build "$version" "$final" "$cache/building" ||
		fail "no Debian could be installed"
	exec {debian_lock}>&-
	debian_image=$final
}

# ---- booting -----------------------------------------------------------------------
debian_disks() {
	local folder=$1
	debian_kind=${2:-lvm}
	cp --reflink=auto --sparse=always "$debian_image/$debian_kind.img" "$folder/root.img"
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 -d "$folder/data" "$folder/data.img" 512M >/dev/null
}

debian_initramfs() {
	local folder=$1 tree=$1/tree
	rm -rf "$tree"
	mkdir "$tree"
	{
		debugfs -R "rdump / $tree" "$folder/root.img?offset=$debian_root_offset" &&
		unshare --mount bash -euc 'mount --bind /dev "$1/dev"; mount -t proc proc "$1/proc"
			chroot "$1" update-initramfs -u -k all' - "$tree" &&
		mv "$tree/boot/initrd.img-$(<"$debian_image/version")" "$folder/initrd.made"
	} >"$folder/initramfs.log" 2>&1 || fail "no initramfs: $(tail -n 3 "$folder/initramfs.log")"
	rm -rf "$tree"
}

# The boot loader's part.
debian_initrd() {
	local folder=$1
	rm -f "$folder/initrd"
	if [ -e "$folder/initrd.made" ]; then
		cp "$folder/initrd.made" "$folder/initrd"
	else
		debugfs -R "dump /boot/initrd.img-$(<"$debian_image/version") $folder/initrd" \
			"$folder/root.img?offset=$debian_root_offset" >"$folder/debugfs.log" 2>&1
	fi
	[ -s "$folder/initrd" ] || fail "no initramfs on $folder/root.img: $(tail -n 1 "$folder/debugfs.log")"
	[ -d "$folder/initrd.over" ] || return 0
	truncate -s %4 "$folder/initrd"
	(cd "$folder/initrd.over" && find . | cpio --quiet -o -H newc) >>"$folder/initrd"
}

# Once. The machine's life is bounded, and it dies with us.
debian_machine() {
	local folder=$1 append=$2 accel=tcg,thread=multi cpu=max
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || accel=kvm cpu=host
	rm -f "$folder/console" "$folder/out"
	setpriv --pdeathsig KILL timeout -k 5 "${debian_timeout:-240}" setpriv --pdeathsig KILL \
		qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -smp 2 -m 1024 \
		-nodefaults -no-user-config -display none -no-reboot -nic none \
		-serial "file:$folder/console" -serial "file:$folder/out" -device virtio-rng-pci \
		-kernel "$debian_image/vmlinuz" -initrd "$folder/initrd" -append "$append" \
		-drive "file=$folder/root.img,if=none,id=root,format=raw,cache=unsafe,discard=unmap" \
		-device virtio-blk-pci,drive=root \
		-drive "file=$folder/data.img,if=none,id=data,format=raw,cache=unsafe,discard=unmap" \
		-device virtio-blk-pci,drive=data </dev/null 2>"$folder/qemu.log"
}

# The emulator's fault, by the evidence that scripts/vm goes by.
debian_emulator_fault() {
	[ "${CLAWBACK_VM_ACCEL:-tcg}" != kvm ] || return 1
	grep -q 'Oops: int3' "$1/console" || emulator_fault "$1/console" >/dev/null
}

debian_boot() {
	local folder=$1 parameters=$2 step=$3 append code=0 try complaints root=/dev/mapper/system-root
	shift 2
	[ "$debian_kind" = lvm ] || root=UUID=$debian_root_uuid
	debian_initrd "$folder"
	append="root=$root ro console=ttyS0 quiet loglevel=5 panic=-1 oops=panic
 random.trust_cpu=on mitigations=off nokaslr watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300
 net.ifnames=0 selinux=0 apparmor=0 systemd.show_status=0 lab.step=$(printf '%q ' "$@" | base64 -w0) $parameters"
	cp --reflink=auto --sparse=always "$folder/root.img" "$folder/root.before"
	cp --reflink=auto --sparse=always "$folder/data.img" "$folder/data.before"
	for try in 1 2 3 4; do
		code=0
		debian_machine "$folder" "${append//$'\n'/}" || code=$?
		debian_emulator_fault "$folder" || break
		debian_say "the emulator's fault, boot $try of $step: once more"
		cp --sparse=always "$folder/root.before" "$folder/root.img"
		cp --sparse=always "$folder/data.before" "$folder/data.img"
	done
	rm -f "$folder/root.before" "$folder/data.before"
	tr -d '\r' <"$folder/out" | grep -v '^debian-step: exit ' || true
	complaints=$(kernel_complaints "$folder/console")
	[ -z "$complaints" ] || fail "the machine's kernel complained: $complaints"
	[ $code = 0 ] || fail "the machine ended with $code: $(tail -n 3 "$folder/qemu.log" "$folder/console")"
	code=$(sed -n 's/^debian-step: exit \([0-9]*\).*/\1/p' "$folder/out")
	return "${code:-99}"
}
