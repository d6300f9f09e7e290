#!/bin/bash
# A machine with LUKS is lost: LVM in one, as Debian's installer makes it, a file system in
# another one, a third that nobody wants. What does not open both is refused before anything
# is written; then all comes back, with the same headers, keys and identifiers, on a larger
# disk. A run that was killed is begun again. The secrets are in no argument.
#
# kernels: 6.12
# guest: udev disk=160M disk=192M
# full-only: yes
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

read -r old larger _ <<<"$CLAWBACK_DISKS"
export LVM_SUPPRESS_FD_WARNINGS=1
header=16	# MiB, of LUKS2

recover() { clawback recover --yes "${clawback_key[@]}" "$@"; }

# seal PARTITION NAME KEYFILE
seal() {
	cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--key-file "$3" "$1"
	unseal "$@"
}
# The key not in the kernel's keyring, for a snapshot of what it opens.
unseal() { cryptsetup open --disable-keyring --key-file "$3" "$1" "$2"; }
close_all() {
	local name
	vgchange -qq -an lab scratch 2>/dev/null || true
	for name in system_crypt files_crypt scratch_crypt; do
		[ ! -e /dev/mapper/$name ] || cryptsetup close $name
	done
}

make_machine() {
	sfdisk -q "$old" <<-END
		label: gpt
		start=1MiB, size=8MiB, type=linux, name="boot"
		start=9MiB, size=32MiB, type=linux, name="files"
		start=41MiB, size=24MiB, type=linux, name="scratch"
		start=65MiB, size=64MiB, type=linux, name="system"
	END
	udevadm settle
	(umask 077
	printf 'the passphrase of the system' >"$work/passphrase-system"
	printf 'another one\n' >"$work/wrong"
	# What a key file may hold: no text.
	printf 'a\0b\n' | cat - <(head -c 60 /dev/urandom) >"$work/key-files"
	# A passphrase file may end with a line end, of which LUKS knows nothing.
	cat "$work/passphrase-system" - <<<'' >"$work/answer")
	mkfs.ext4 -q -L boot "${old}1"
	defer close_all
	seal "${old}2" files_crypt "$work/key-files"
	seal "${old}3" scratch_crypt "$work/wrong"
	seal "${old}4" system_crypt "$work/passphrase-system"
	mkfs.ext4 -q -L files /dev/mapper/files_crypt
	vgcreate -qq lab /dev/mapper/system_crypt
	lvcreate -qq -n root -L 24M lab
	lvcreate -qq -n swap -L 4M lab
	mkfs.ext4 -q -L root /dev/lab/root
	mkswap -q /dev/lab/swap
	vgcreate -qq scratch /dev/mapper/scratch_crypt
	lvcreate -qq -n old -L 4M scratch
	for folder in root files; do mkdir "$work/$folder"; done
	mount_volume /dev/lab/root "$work/root"
	mount_volume /dev/mapper/files_crypt "$work/files"
	head -c 6M /dev/urandom >"$work/root/file"
	head -c 3M /dev/urandom >"$work/files/file"
	sync
	clawback_begin "$work/repository" open
	printf '\n[disk machine]\ndevice = %s\nleave_out = 3\n' "$old" >>"$clawback_config"
	clawback_volume root /dev/lab/root
	clawback_volume files /dev/mapper/files_crypt
}

# What names things, on an opened machine.
identities() {
	sfdisk --dump "$1" | sed -n "s|^$1||; s/^label/label/p; s/size= *[0-9]*, //; s/^\([0-9]* : \)/\1/p"
	blkid -p -o value -s UUID "${1}1" "${1}2" "${1}4"
	blkid -p -o value -s UUID /dev/mapper/files_crypt /dev/lab/root /dev/lab/swap
	vgs --noheadings -o vg_name,vg_uuid lab
	lvs --noheadings -o lv_name,lv_uuid,lv_size lab
	pvs --noheadings -o pv_uuid,pe_start -S vg_name=lab
	for number in 2 4; do head -c ${header}M "$1$number" | sha256sum; done
}

lose_machine() {
	unmount_volume "$work/root"
	unmount_volume "$work/files"
	identities "$old" >"$work/identities"
	sha256sum "${old}1" | cut -d ' ' -f 1 >"$work/boot"
	clawback detach --all >/dev/null
	close_all
	lose "$old"
}
lose() {
	dd if=/dev/zero of="$1" bs=1M oflag=direct status=none || true
	blockdev --rereadpt "$1"
	udevadm settle
}

no_mapping() { ! dmsetup ls 2>/dev/null | grep -E '^recover-|^lab-|_crypt' || fail "left open: $(dmsetup ls)"; }
# Nothing at all, nowhere.
untouched() {
	cmp -n "$(blockdev --getsize64 "$larger")" "$larger" /dev/zero || fail "something was written"
	no_mapping
}

judge() {
	no_mapping
	diff "$work/boot" <(sha256sum "${1}1" | cut -d ' ' -f 1) || fail "/boot differs"
	unseal "${1}2" files_crypt "$work/key-files"
	unseal "${1}4" system_crypt "$work/passphrase-system"
	vgchange -qq -ay lab
	udevadm settle
	diff "$work/identities" <(identities "$1") || fail "identities differ"
	clawback restore root --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
	assert_same "$work/wanted" /dev/lab/root
	clawback restore files --to "$work/wanted" --force "${clawback_key[@]}" >/dev/null
	assert_same "$work/wanted" /dev/mapper/files_crypt
	rm "$work/wanted"
	for device in /dev/lab/root /dev/mapper/files_crypt; do
		e2fsck -fn $device >/dev/null || fail "the file system on $device is damaged"
	done
	[ "$(vgs --noheadings --units m --nosuffix -o vg_size lab | cut -d . -f 1)" -gt 100 ] ||
		fail "the PV did not grow: $(vgs lab)"
}

# Arguments of all that is run are kept.
mkdir "$work/bin"
cat >"$work/bin/cryptsetup" <<END
#!/bin/sh
echo "\$*" >>$work/arguments
exec /usr/sbin/cryptsetup "\$@"
END
chmod 755 "$work/bin/cryptsetup"

make_machine
backup machine root files
lose_machine
untouched
to=(--disks "machine:$larger" --grow)
given=(--luks-passphrase-file "$work/answer" --luks-key-file "$work/key-files")

echo "== refused"
assert_refused 2 "LUKS files_crypt of disk machine: it needs its passphrase" recover "${to[@]}"
assert_refused 12 "no key slot of it is opened" recover "${to[@]}" --luks-passphrase-file "$work/wrong"
# One of the two is opened by that.
assert_refused 12 "LUKS files_crypt.*$work/answer.*no key slot" recover "${to[@]}" \
	--luks-passphrase-file "$work/answer"
cp "$work/key-files" "$work/readable"
chmod 644 "$work/readable"
assert_refused 1 "others may access it" recover "${to[@]}" --luks-key-file "$work/readable"
untouched
recover "${to[@]}" --dry-run | tee "$work/plan"
grep -q 'in LUKS files_crypt ext4.*volume files, point 1' "$work/plan" || fail "the plan does not tell"

echo "== killed"
recover "${to[@]}" "${given[@]}" >"$work/killed" 2>&1 &
pid=$!
is_open() { [ -e /dev/mapper/recover-system_crypt ]; }
wait_for 120 is_open
kill -KILL $pid && wait $pid || true
is_open || fail "it was closed by nobody"

echo "== all of it, as the configuration says"
cat >>"$clawback_config" <<END

[recover]
luks_passphrase_file = $work/answer
luks_key_file = $work/key-files
END
PATH=$work/bin:$PATH recover --erase "${to[@]}" | tee "$work/recovered"
grep -q '^recovered 1 disk with 2 volumes' "$work/recovered" || fail "that is not what it was to do"
grep -q 'open .*recover-system_crypt' "$work/arguments" || fail "the arguments were not kept"
! grep -q -e 'the passphrase' -e "$(strings -n 8 "$work/key-files" | head -n 1 || true)x" "$work/arguments" ||
	fail "a secret among arguments: $(cat "$work/arguments")"
judge "$larger"
close_all
clawback_end
