#!/bin/bash
# A machine is lost and comes back: a Debian with PostgreSQL under load is backed up, its
# disk is thrown away, the rescue image is booted with an answer file and an empty disk of
# another size, recovery runs unattended, and the machine boots from the new disk by its own
# boot loader; PostgreSQL is whole. By UEFI, with GPT and LVM, onto a larger disk; and by
# BIOS, with a dos table and plain partitions that are adopted, onto a smaller one. The
# commands and the answer file are those of docs/runbooks/lost-server.md.
#
# runs: image before answers well afterwards
# kernels: 6.1
# full-only: yes
# guest: host
# timeout: 5400
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/pages.sh
. tests/lib/debian-image.sh
. tests/lib/bare-metal.sh

# CLAWBACK_RESCUE=FILE.iso saves making the image, CLAWBACK_FIRMWARE=uefi or bios does only
# that; in the folder CLAWBACK_METAL is kept what was backed up, and the next run goes on
# from there.
firmwares=${CLAWBACK_FIRMWARE:-uefi bios}
kept=${CLAWBACK_METAL:-}
runbook=docs/runbooks/lost-server.md
lib=$work/installed/usr/lib/clawback
: "${metal_timeout:=1500}"

say() { echo "==== $*, $SECONDS s"; }

# ---- the runbook ------------------------------------------------------------------------
# page NAME [SED]...: the commands as they stand there, but for SED: other names.
page() {
	local name=$1
	shift
	page_blocks "$runbook" "$name" | sed -e '' "$@"
}

# An emulated machine takes a small kernel, and no time to compress.
image() {
	mkdir "$work/made"
	page image -e "s|^/usr/lib/clawback/rescue-image|$lib/rescue-image --kernel cloud --level 3 --clawback $clawback_program|" \
		-e "s|/dev/sdX|$work/medium|" >"$work/made/commands"
	(cd "$work/made" && bash -eux commands)
	rm -r "$work/made"
}

# The medium with the answers. In reality the repository is elsewhere; here it lies there, too.
answers() {
	local folder=$1 fingerprint
	fingerprint=$(grep -o '[0-9a-f]\{64\}' "$folder/said-init" | head -n 1)
	mkdir "$folder/making"
	page_file "$runbook" recover.conf | sed -e 's|^url = .*|url = file:///run/clawback/answers/repository|' \
		-e "s|^fingerprint = …|fingerprint = $fingerprint|" -e '/^endpoint = /d' -e '/^credentials_file = /d' \
		>"$folder/making/recover.conf"
	: >"$folder/making/credentials"
	truncate -s 1G "$folder/answers.img"
	page answers -e "s|/dev/sdY|$folder/answers.img|" >"$folder/making/commands"
	unshare --mount bash -euc 'mount -t tmpfs tmpfs /media
		mkdir /media/key
		cp "$1/recovery.pem" "$1/passphrase" /media/key/
		cd "$2/making"
		bash -eux commands
		mount "$2/answers.img" /mnt
		cp -r "$2/repository" /mnt/
		umount /mnt' - "$work" "$folder"
	rm -r "$folder/making" "$folder/repository"
}

# ---- the machine --------------------------------------------------------------------------
# What it has on /srv/data: the program, keys, and later its repository.
prepare() {
	local kind=$1 name
	rm -rf "$work/files"
	mkdir -p "$work/$kind" "$work/files/blocks"
	cp -a "$work/installed" "$work/files/install"
	cp "$work/recovery.pem.pub" "$work/files/"
	cp tests/lib/bare-metal-step.sh "$work/files/step"
	for name in before well afterwards; do
		page $name >"$work/files/blocks/$name"
	done
	"config_$kind" >"$work/files/clawback.conf"
	echo none >"$work/files/what"
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
	printf '[volume %s]\ndevice = /dev/system/%s\n' root root pgdata pg
}
config_bios() {
	config_head
	printf '[volume %s]\ndevice = /dev/mapper/%s\n' root system pgdata pgdata
}

# step KIND WORD...: a boot from the machine's own disk, and what it does then.
step() {
	local kind=$1
	shift
	say "$kind: $*"
	metal_what "$work/$kind/data.img" "$@"
	metal_boot "$kind" "$work/$kind" "${step_options[@]}"
}
step_options=()

# A first boot by UEFI: nobody has told this firmware of the loader yet.
protect_uefi() {
	step_options=(-kernel "$metal_image/vmlinuz" -initrd "$metal_image/initrd"
		-append "root=/dev/mapper/system-root ${metal_parameters//$'\n'/}")
	step uefi protect
	step_options=()
}
protect_bios() {
	step bios adopt
	step bios protect
}

protected() {
	local kind=$1
	if [ -n "$kept" ] && [ -e "$kept/$kind/data.img" ]; then
		mkdir "$work/$kind"
		cp --sparse=always "$kept/$kind/data.img" "$work/$kind/"
		cp "$kept/$kind"/recovery.pem* "$work/"
		return
	fi
	metal_image "$kind"
	prepare "$kind"
	"protect_$kind"
	[ -z "$kept" ] || { mkdir -p "$kept/$kind" && cp --sparse=always "$work/$kind/data.img" "$work"/recovery.pem* "$kept/$kind/"; }
}

# lose KIND SIZE: a new machine, with an empty disk; of the old one there is the repository.
lose() {
	local folder=$work/$1
	rm -f "$folder/vars" "$folder/disk.img"
	truncate -s "$2" "$folder/disk.img"
	debugfs -R "rdump /repository $folder" "$folder/data.img" >/dev/null 2>&1
	debugfs -R "dump /said-init $folder/said-init" "$folder/data.img" >/dev/null 2>&1
	answers "$folder"
}

recovered() {
	local kind=$1
	say "$kind: recovery"
	metal_rescue "$kind" "$work/$kind" "$work/medium" | tee "$work/$kind/said"
	grep -q 'recovered 1 disk with 2 volumes' "$work/$kind/said" || fail "it was not recovered"
	grep -q 'recovery ended with 0' "$work/$kind/said" || fail "recovery failed"
}

assert_equal "$(page_names "$runbook")" "$(sed -n 's/^# runs: //p' "$0" | tr ' ' '\n' | sort)" \
	"blocks of $runbook, and those that are run"
make -s BUILD="$CLAWBACK_BUILD" DESTDIR="$work/installed" PREFIX=/usr install
(umask 077 && echo "a passphrase for tests only" >"$work/passphrase")
"$clawback_program" keygen --out "$work/recovery.pem" --passphrase-file "$work/passphrase" >/dev/null
open_recovery_key
if [ -n "${CLAWBACK_RESCUE:-}" ]; then
	cp "$CLAWBACK_RESCUE" "$work/medium"
else
	say "the rescue image"
	image
fi
for kind in $firmwares; do
	protected "$kind"
	if [ "$kind" = uefi ]; then
		lose "$kind" 2G
	else
		lose "$kind" 1200M
	fi
	recovered "$kind"
	step "$kind" check
	rm -r "${work:?}/$kind"
done
say "done"
