#!/bin/bash
# A machine is lost and comes back: a Debian with PostgreSQL under load is backed up, its
# disk is thrown away, the rescue image is booted with an answer file and an empty disk of
# another size, recovery runs unattended, and the machine boots from the new disk by its own
# boot loader; PostgreSQL is whole. By UEFI, with GPT and LVM, onto a larger disk.
#
# kernels: 6.1
# full-only: yes
# guest: host
# timeout: 2400
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/debian-image.sh
. tests/lib/bare-metal.sh

# CLAWBACK_RESCUE=FILE.iso saves making one.

say() { echo "==== $*, $SECONDS s"; }

# What the machine has on /srv/data: the program, keys, and later its repository. In
# reality that is a store elsewhere.
prepare() {
	local kind=$1
	mkdir -p "$work/$kind" "$work/files/install"
	rm -rf "$work/files"/*
	make -s BUILD="$CLAWBACK_BUILD" DESTDIR="$work/files/install" PREFIX=/usr install
	cp "$work"/recovery.pem "$work"/recovery.pem.pub "$work/passphrase" "$work/files/"
	chmod 600 "$work/files/passphrase"
	cp tests/lib/bare-metal-step.sh "$work/files/step"
	echo "protect" >"$work/files/what"
	"config_$kind" >"$work/files/clawback.conf"
	answers >"$work/files/recover.conf"
	metal_data "$work/files" "$work/$kind/data.img"
	cp --reflink=auto --sparse=always "$metal_image/disk.img" "$work/$kind/disk.img"
}

config_head() {
	cat <<-END
		[repository]
		url = file:///srv/data/repository
		recipient = /srv/data/recovery.pem.pub

		[disk machine]
		device = /dev/vda

	END
}
config_uefi() {
	config_head
	printf '[volume %s]\ndevice = /dev/system/%s\n' root root pg pg
}
answers() {
	cat <<-END
		[repository]
		url = file:///run/clawback/answers/repository

		[recover]
		recovery_key = /run/clawback/answers/recovery.pem
		passphrase_file = /run/clawback/answers/passphrase
		unattended = yes
		grow = yes
		afterwards = poweroff
	END
}

# step KIND WORD...: a boot from the machine's own disk, and what it does then.
step() {
	local kind=$1
	shift
	say "$kind: $*"
	metal_what "$work/$kind/data.img" "$@"
	metal_boot "$kind" "$work/$kind"
}

# A first boot by UEFI: nobody has told this firmware of the loader yet.
step_kernel() {
	local kind=$1
	shift
	say "$kind: $*"
	metal_what "$work/$kind/data.img" "$@"
	metal_boot "$kind" "$work/$kind" -kernel "$metal_image/vmlinuz" -initrd "$metal_image/initrd" \
		-append "root=/dev/mapper/system-root ${metal_parameters//$'\n'/}"
}

# lose KIND SIZE: a new, empty disk, and a new machine.
lose() {
	rm "$work/$1/disk.img"
	rm -f "$work/$1/vars"
	truncate -s "$2" "$work/$1/disk.img"
}

recovered() {
	local kind=$1
	say "$kind: recovery"
	metal_rescue "$kind" "$work/$kind" "$work/rescue.iso" | tee "$work/$kind/said"
	grep -q 'recovered 1 disk ' "$work/$kind/said" || fail "it was not recovered"
	grep -q 'recovery ended with 0' "$work/$kind/said" || fail "recovery failed"
}

(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
"$clawback_program" keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase" >/dev/null
open_recovery_key
if [ -n "${CLAWBACK_RESCUE:-}" ]; then
	cp "$CLAWBACK_RESCUE" "$work/rescue.iso"
else
	scripts/rescue-image --kernel cloud --level 3 --clawback "$clawback_program" "$work/rescue.iso"
fi

metal_image uefi
prepare uefi
step_kernel uefi protect machine root pg
lose uefi 2G
recovered uefi
step uefi check
