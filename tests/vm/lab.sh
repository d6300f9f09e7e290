#!/bin/bash
# The guest itself is fit for the tests: device-mapper snapshots hold still, the
# targets needed are there, BPF loads, PostgreSQL runs, time is about right.
#
# full-only: yes
# guest: plain 2048M disk=256M
# timeout: 240
. "$(dirname "$0")/../lib/guest.sh"

targets_exist() {
	local target
	modprobe -a dm-snapshot dm-thin-pool dm-crypt dm-flakey dm-log-writes dm-era ||
		fail "modules are missing"
	dmsetup targets >"$work/targets"
	for target in linear snapshot snapshot-origin thin thin-pool crypt flakey log-writes era error; do
		grep -q "^$target " "$work/targets" || fail "no target $target"
	done
}

# The protocol of a snapshot in shell: writes after the switch must not show.
snapshot_holds_still() {
	local disk cow volume='' sectors
	make_disk disk 32M
	make_disk cow 32M
	dd if=/dev/urandom of="$disk" bs=1M count=32 status=none
	cp --sparse=never "$disk" "$work/before"
	make_linear_volume volume lab "$disk"
	sectors=$(blockdev --getsz "$volume")
	make_linear_volume _ lab-real "$disk"
	# The snapshot goes first, the origin's own table comes back before that.
	make_volume _ lab-snap "0 $sectors snapshot /dev/mapper/lab-real $cow N 8"
	dmsetup load lab --table "0 $sectors snapshot-origin /dev/mapper/lab-real"
	dmsetup resume lab
	dd if=/dev/urandom of="$volume" bs=4k count=500 seek=1000 conv=notrunc,fsync status=none
	assert_same "$work/before" /dev/mapper/lab-snap
	! cmp -s "$work/before" "$volume" || fail "the writes did not reach the volume"
	dmsetup load lab --table "0 $sectors linear $disk 0"
	dmsetup resume lab
}

stacked_volumes_work() {
	local disk crypt thin
	make_disk disk 64M
	make_thin_volume thin lab-thin "$disk" 65536
	make_crypt_volume crypt lab-crypt "$thin"
	mkfs.ext4 -q "$crypt"
	mount_at "$crypt" "$work/mnt"
	echo hello >"$work/mnt/file"
	sync "$work/mnt/file"
}

bpf_loads() {
	bpftool -j feature probe kernel >"$work/features" 2>/dev/null || fail "bpftool cannot probe"
	[ -r /sys/kernel/btf/vmlinux ] || fail "the kernel has no BTF"
	mountpoint -q /sys/fs/bpf || fail "bpffs is not mounted"
}

postgres_runs() {
	# shellcheck disable=SC2086
	set -- ${CLAWBACK_DISKS:?}
	mkfs.ext4 -q "$1"
	mount_at "$1" "$work/pg"
	pg_start "$work/pg"
	pg_sql "$work/pg" 'create table t as select generate_series(1, 1000) i'
	assert_equal 1000 "$(pg_sql "$work/pg" 'select count(*) from t')" "rows"
	pg_stop "$work/pg"
}

for step in targets_exist snapshot_holds_still stacked_volumes_work bpf_loads postgres_runs; do
	echo "== $step, $(cut -d ' ' -f 1 /proc/uptime) s after boot"
	$step
done
