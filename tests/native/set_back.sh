#!/bin/bash
# A machine that is set back to an earlier image of itself, while its repository holds
# points that were made since: its marks tell what changed since another point than
# the repository's last. That must be noticed, and the next point be exact.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

trust() { clawback status v --json | jq -r '.volumes[0] | .trust + .reason'; }

[ "$(id -u)" = 0 ] || skip "not root"
make_disk disk 32M
file=$(losetup --noheadings --output BACK-FILE "$disk" | xargs)
defer blockdev --setrw "$disk"
clawback_begin "$work/repository" open
clawback_volume v "$disk"
fill "$disk" 8

# image_take, image_put: disk and state folder, as the image of a machine has them.
# Written past the device, so that its tracker sees nothing of it.
image_take() {
	sync "$disk"
	cp --sparse=always "$file" "$work/image"
	rm -rf "$work/state-then"
	cp -a "$work/state" "$work/state-then"
}
image_put() {
	dd if="$work/image" of="$file" bs=1M conv=notrunc,fsync status=none
	blockdev --flushbufs "$disk"
	rm -rf "$work/state"
	cp -a "$work/state-then" "$work/state"
}

# The next run meets the point that it does not know; the one after compares.
assert_noticed() {
	assert_refused 11 'set back to an earlier' clawback backup v
	backup v
	assert_kind full
	[[ $(summary point.reason) == *"set back to an earlier"* ]] ||
		fail "its reason: $(summary point.reason)"
	assert_matches_volume v "$disk"
	fill "$disk" 1 3
	backup v
	assert_kind incremental
	assert_matches_volume v "$disk"
}

echo "== a running machine, its memory too"
backup v
image_take
fill "$disk" 2 10
backup v
fill "$disk" 1 20
backup v
image_put
assert_equal tracked "$(trust)" "the trust in the image"
fill "$disk" 1 30
assert_noticed

echo "== and the points that were made since were pruned, but for the newest"
image_take
for _ in 1 2 3; do
	fill "$disk" 1 12
	backup v
done
clawback forget v --keep-last 1 >/dev/null
clawback prune v --grace 0s >/dev/null
image_put
assert_noticed

# reboot [FILE]: as another boot sees it: another boot id, no tracker, a device that
# has counted nothing yet.
reboot() {
	blockdev --setrw "$disk"
	losetup --detach "$disk"
	python3 -c 'import fcntl, sys; fcntl.ioctl(open("/dev/loop-control"), 0x4c81, int(sys.argv[1]))' \
		"${disk#/dev/loop}"	# LOOP_CTL_REMOVE
	losetup "$disk" "$file"
	umount -q /proc/sys/kernel/random/boot_id || true
	cat /proc/sys/kernel/random/uuid >"$work/boot_id"
	mount --bind "$work/boot_id" /proc/sys/kernel/random/boot_id
	umount /sys/fs/bpf
	mount -t bpf bpf /sys/fs/bpf
}

echo "== another boot, as it should be"
fill "$disk" 2 4
clawback handover v
image_take
reboot
clawback attach v
assert_equal tracked "$(trust)" "the trust in another boot"
backup v
assert_kind incremental
assert_equal false "$(summary rescan)" "a rescan"
assert_equal $((2 << 20)) "$(summary point.read_bytes)" "what was read"
assert_matches_volume v "$disk"

echo "== a boot from an image of the machine that was shut down"
fill "$disk" 1 20
backup v
clawback detach v
image_put
reboot
clawback attach v
# All that the machine itself holds agrees; only the repository knows more.
assert_equal tracked "$(trust)" "the trust in the image"
fill "$disk" 1 25
assert_noticed
clawback_end
