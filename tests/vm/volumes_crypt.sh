#!/bin/bash
# LUKS volumes are protected exactly; one whose key is in the kernel's keyring is
# refused with the way out, and works beneath instead.
#
# quick-kernels: 6.12
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# full-only: yes
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/volume-story.sh

# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}

open_luks() { echo secret | cryptsetup open "$@" --key-file - "$lower" sealed; }
close_luks() { [ ! -e /dev/mapper/sealed ] || cryptsetup close sealed; }

mkfs.ext4 -q "$2"
mount_volume "$2" "$work/repository"
make_linear_volume lower lower "$1" $((48 * 2048))
clawback_begin "$work/repository/clawback" open
echo secret | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 \
	--pbkdf-force-iterations 1000 --key-file - "$lower"
defer close_luks
open_luks --disable-keyring
volume_story sealed /dev/mapper/sealed ext4

echo "== with the key in the keyring"
close_luks
open_luks
dmsetup table sealed | grep -q ':logon:' || fail "the key is not in the keyring"
mount_volume /dev/mapper/sealed "$work/mount"
assert_refused 1 disable-keyring clawback backup sealed
assert_no_helpers
assert_equal crypt "$(dmsetup table sealed | cut -d ' ' -f 3)" "the volume's own target"
echo still there >"$work/mount/file"
sync "$work/mount/file"

# The message says so too: the device beneath can be protected, sealed as it is.
clawback_volume lower "$lower"
backup lower
fill_file "$work/mount/more" 2
backup lower
assert_kind incremental
assert_restores lower@1
assert_restores lower@2
unmount_volume "$work/mount"
clawback_end
