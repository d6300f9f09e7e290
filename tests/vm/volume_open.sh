#!/bin/bash
# Under udev: a mounted volume keeps its links, helper devices get none; the snapshot
# is a clean file system; what cannot be snapshotted safely is refused and told.
#
# quick-kernels: 6.1
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/tests/vm/volume_open
modprobe -a dm-snapshot dm-crypt dm-era loop

# open_volume ARG...: runs the program until close_volume; sets read_path, frozen.
open_volume() {
	rm -f "$work/hold"
	mkfifo "$work/hold"
	: >"$work/out"
	"$program" "$@" <"$work/hold" >"$work/out" 2>"$work/message" &
	opened=$!
	exec 9>"$work/hold"
	wait_for 60 opened_or_ended
	read -r _ read_path frozen <"$work/out" || fail "not opened: $(cat "$work/message")"
}
opened_or_ended() { [ -s "$work/out" ] || ! kill -0 $opened 2>/dev/null; }
close_volume() {
	exec 9>&-
	wait $opened || fail "did not close well: $(cat "$work/message")"
}
# refused PATTERN ARG...: the program fails and says so.
refused() {
	local pattern=$1
	shift
	assert_exit 1 "$program" "$@" </dev/null 2>"$work/message"
	grep -q -- "$pattern" "$work/message" || fail "told as: $(cat "$work/message")"
	echo "refused: $(cat "$work/message")"
	no_helpers
}
no_helpers() { ! dmsetup ls | grep clawback- || fail "helper devices remain"; }

make_disk disk 64M
make_linear_volume volume labvol "$disk"
mkfs.ext4 -q -L lablabel "$volume"
mount_at "$volume" "$work/mnt"
udevadm trigger --settle "$(readlink -f "$volume")"
node=$(readlink -f "$volume")
check_links() {
	udevadm settle
	assert_equal "$node" "$(readlink -f /dev/disk/by-label/lablabel)" "by-label $1"
	[ -L "$volume" ] || fail "$volume is no link any more ($1)"
	assert_equal "$node" "$(readlink -f "$volume")" "by name $1"
	! udevadm info -q property "$node" | grep SYSTEMD_READY=0 || fail "not ready $1"
}
check_links before

echo "== links, freezing, a clean snapshot"
seq 1 20000 >"$work/mnt/file"
open_volume "labvol=$volume"
assert_equal frozen "$frozen" "a mounted file system"
check_links "while open"
seq 1 30000 >"$work/mnt/file"
sync
for helper in /dev/mapper/clawback-*; do
	[ -L "$helper" ] || fail "$helper is not udev's link"
	! udevadm info -q property "$(readlink -f "$helper")" | grep -E 'ID_FS_' ||
		fail "$helper was looked at"
done
! grep -l . /sys/block/loop*/loop/backing_file | while read -r file; do
	grep -q clawback-cow "$file" || continue
	loop=/dev/$(cut -d/ -f4 <<<"$file")
	udevadm info -q property "$loop" | grep ID_FS_ && echo "$loop"
done | grep . || fail "the COW store passes for a file system"
e2fsck -fn "$read_path" || fail "the snapshot is not clean"
debugfs -R 'cat file' "$read_path" 2>/dev/null | cmp - <(seq 1 20000) ||
	fail "the snapshot does not show the file as it was"
close_volume
no_helpers
check_links "after it"
cmp "$work/mnt/file" <(seq 1 30000)

echo "== udev's part"
# Slow before anything is read of the device: a rule that finds it suspended skips
# blkid, and the links by label and UUID are gone. So the event of the switch has to be
# over before the volume's own table is put back, which suspends it once more.
make_disk second 32M
make_linear_volume other labother "$second"
# Run before udev answers whoever waits for it.
printf '#!/bin/sh\nread -r now rest </proc/uptime\necho "$1 $now" >>%s\n' "$work/handled" >"$work/handle"
chmod +x "$work/handle"
mkdir -p /run/udev/rules.d
printf 'ACTION=="change", KERNEL=="%s|%s", PROGRAM="/bin/sleep 1", RUN+="%s %%k"\n' "${node##*/}" \
	"$(basename "$(readlink -f "$other")")" "$work/handle" >/run/udev/rules.d/50-lab-slow.rules
defer rm -f /run/udev/rules.d/50-lab-slow.rules
udevadm control --reload
udevadm settle
# come_and_go VOLUME...: notes when the kernel told of a change and when udev had handled it.
come_and_go() {
	local monitor
	rm -f "$work/handled"
	stdbuf -oL udevadm monitor --kernel --subsystem-match=block >"$work/events" &
	monitor=$!
	defer quiet_kill $monitor
	wait_for 20 grep -q "^KERNEL" "$work/events"
	"$program" "$@" </dev/null >"$work/out" 2>"$work/message" || fail "$(cat "$work/message")"
	cp "$work/handled" "$work/handled.end"
	udevadm settle
	kill $monitor
	wait $monitor 2>/dev/null || true
	no_helpers
	! semaphores | comm -13 "$work/semaphores" - | grep . || fail "a semaphore for udev is left"
}
# Those that others were killed with stay until the guest ends.
semaphores() { ipcs -s | grep -i -o "^0x0*d4d[0-9a-f]* *[0-9]*" | sort || true; }
semaphores >"$work/semaphores"
quiet_kill() { kill "$1" 2>/dev/null || true; }
# The first event is handled before the kernel tells of the second, and that at the end.
assert_in_turn() {
	local told handled
	mapfile -t told < <(sed -n "s,^KERNEL *\[\(.*\)\] change .*/${1##*/} .*,\1,p" "$work/events")
	mapfile -t handled < <(sed -n "s,^${1##*/} ,,p" "$work/handled.end")
	assert_equal "2 2" "${#told[@]} ${#handled[@]}" "events of $1, told and handled ($2)"
	awk -v told="${told[1]}" -v handled="${handled[0]}" 'BEGIN { exit !(handled <= told + 0.02) }' ||
		fail "$1 was suspended at ${told[1]} s, but udev busy with it until ${handled[0]} s ($2)"
	echo "  $2: ${1##*/} handled at ${handled[0]} s, suspended again at ${told[1]} s"
}
come_and_go "labvol=$volume"
assert_in_turn "$node" "a single volume"
check_links "after a slow udev"
come_and_go "labvol=$volume" "labother=$other"
assert_in_turn "$node" "in a group"
assert_in_turn "$(readlink -f "$other")" "in a group"
check_links "after a group"
rm /run/udev/rules.d/50-lab-slow.rules
udevadm control --reload

echo "== COW stores"
mkdir "$work/cow"
mount_at tmpfs "$work/cow" -t tmpfs
open_volume --cow "file:$work/cow" "labvol=$volume"
assert_equal "" "$(ls -A "$work/cow")" "the COW file's name"
close_volume
# Not on the guest's overlay, of which nobody can tell where it lies.
truncate -s 32M "$work/cow/spare"
spare=$(losetup --find --show "$work/cow/spare")
defer losetup --detach "$spare"
open_volume --cow "device:$spare" "labvol=$volume"
dd if=/dev/urandom of="$work/mnt/file" bs=1M count=4 conv=notrunc status=none
sync
close_volume
assert_equal "" "$(blkid -p "$spare" || true)" "what the COW device looks like"
refused "lies on volume labvol" --cow "file:$work/mnt" "labvol=$volume"

echo "== what cannot be"
make_disk under 32M
make_volume origin laborigin "0 32768 snapshot-origin $under"
refused "already has a device-mapper snapshot" "laborigin=$origin"
make_disk meta 8M
make_volume era labera "0 32768 era $meta $under 128"
refused "target era" "labera=$era"
dmsetup suspend labvol --nolockfs
code=0
"$program" "labvol=$volume" </dev/null 2>"$work/message" || code=$?
dmsetup resume labvol
assert_equal 1 $code "exit code for a suspended volume"
grep -q "suspended by another" "$work/message" || fail "$(cat "$work/message")"
no_helpers

if type cryptsetup >/dev/null 2>&1; then
	echo "== a key in the keyring"
	make_disk crypted 32M
	echo secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 \
		--pbkdf-force-iterations 1000 --key-file - "$crypted"
	echo secret | cryptsetup open --key-file - "$crypted" labcrypt
	defer cryptsetup close labcrypt
	refused "disable-keyring" labcrypt=/dev/mapper/labcrypt
	cryptsetup close labcrypt
	echo secret | cryptsetup open --disable-keyring --key-file - "$crypted" labcrypt
	open_volume labcrypt=/dev/mapper/labcrypt
	assert_same "$read_path" /dev/mapper/labcrypt
	close_volume
fi
