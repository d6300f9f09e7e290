#!/bin/bash
# A PostgreSQL volume under pgbench load: a full, incrementals while writes go on,
# the volume destroyed, two points restored, byte for byte what their snapshots
# showed, and PostgreSQL started from them (in a quick run from the later one only).
# scripts/quickstart shows the same.
#
# quick-kernels: 6.12
# guest: udev 2048M disk=512M disk=512M disk=512M disk=512M
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

bin=/usr/lib/postgresql/15/bin
chmod 755 "$work"
mib=112
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }
as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); }

# memory_disk NAME MIB: a dm-linear volume on a loop device on a file in memory.
memory_disk() {
	local loop
	truncate -s "$2M" "$work/$1.disk"
	loop=$(losetup --find --show "$work/$1.disk")
	defer losetup -d "$loop"
	dmsetup create "$1" --uuid "QUICKSTART-$1" --table "0 $(($2 * 2048)) linear $loop 0"
	! [ -e /run/udev/control ] || udevadm settle
	[ -e "/dev/mapper/$1" ] || dmsetup mknodes
	defer dmsetup remove --retry "$1"
}

pg_up() {	# FOLDER
	as_postgres $bin/pg_ctl -D "$1/data" -w -t 120 -l "$work/pg.log" -o \
		"-k $work/sock -c listen_addresses= -c max_wal_size=32MB -c shared_buffers=32MB" \
		start >/dev/null || { tail -n 20 "$work/pg.log"; fail "PostgreSQL did not start"; }
	running=$1
}
pg_down() {
	[ -n "${running:-}" ] || return 0
	as_postgres $bin/pg_ctl -D "$running/data" -w -m "${1:-immediate}" stop >/dev/null
	running=
}
query() { as_postgres psql -h "$work/sock" -qAtX -c "$1" postgres; }

modprobe -q -a dm-snapshot loop || true
install -d -o postgres "$work/sock"
install -o postgres /dev/null "$work/pg.log"

step "a PostgreSQL cluster on a device-mapper volume of $mib MiB"
memory_disk pgdata $mib
mkfs.ext4 -q -E lazy_itable_init=0 /dev/mapper/pgdata
mount_volume /dev/mapper/pgdata "$work/mnt"
install -d -o postgres -m 700 "$work/mnt/data"
as_postgres $bin/initdb -D "$work/mnt/data" -A trust --no-sync --wal-segsize=4 >/dev/null
defer pg_down
pg_up "$work/mnt"
as_postgres $bin/pgbench -h "$work/sock" -i -q -s 1 postgres 2>/dev/null
query "create extension amcheck"

step "a recovery key, a repository in a local folder, tracking on"
clawback_begin "$work/repository"
clawback_volume pgdata /dev/mapper/pgdata
clawback attach pgdata

step "pgbench writes from here on; a full backup"
as_postgres $bin/pgbench -h "$work/sock" -n -c 2 -T 3600 -R 40 postgres >"$work/pgbench.log" 2>&1 &
load=$!
defer clawback_stop $load
backup pgdata
assert_kind full
load_going() { kill -0 $load 2>/dev/null || fail "pgbench ended: $(tail -n 5 "$work/pgbench.log")"; }

step "three incrementals while writes go on"
for _ in 1 2 3; do
	sleep 3
	backup pgdata
	assert_kind incremental
	load_going
done
clawback points pgdata
clawback status

step "the volume is destroyed"
before=$(query "select count(*) from pgbench_history")
kill $load
pg_down immediate
umount "$work/mnt"
dd if=/dev/zero of=/dev/mapper/pgdata bs=1M count=$mib oflag=direct status=none

# check_point NUMBER DISK restore|start: restored, compared; started, checked.
check_point() {
	step "recovery point $1 restored onto $2, compared with its snapshot"
	assert_restores "pgdata@$1" /dev/mapper/pgnew
	sed 's/^/  /' "$work/restore.out"
	[ "$3" = start ] || return 0

	step "PostgreSQL started from it"
	mount_volume /dev/mapper/pgnew "$work/new"
	pg_up "$work/new"
	as_postgres $bin/pg_amcheck -h "$work/sock" postgres || fail "pg_amcheck found damage"
	assert_equal t "$(query "select sum(abalance) = (select sum(delta) from pgbench_history)
		from pgbench_accounts")" "the books balance"
	rows[$1]=$(query "select count(*) from pgbench_history")
	echo "  pg_amcheck found nothing, the books balance, ${rows[$1]} transactions are there"
	pg_down fast
	umount "$work/new"
}
memory_disk pgnew $mib
rows=()
first=restore
! is_full || first=start
check_point 3 "an empty disk" $first
check_point 4 "the same disk" start
[ "${rows[3]:-0}" -le "${rows[4]}" ] && [ "${rows[4]}" -le "$before" ] ||
	fail "later points have fewer transactions: ${rows[*]}, $before at the end"

step "every byte of the repository verified"
clawback verify --data "${clawback_key[@]}"
clawback_end

step "done"
clawback points pgdata --json | jq -r '.points[] | "point \(.number): \(.kind), marked " +
	"\(.marked_bytes / 1048576 | floor) MiB of \(.volume_bytes / 1048576) MiB, stored " +
	"\(.stored_bytes / 1024 | floor) KiB"'
echo "The second incremental (point 3) and the last (point 4) came back byte for byte as their"
echo "snapshots were, and PostgreSQL started from $([ $first = start ] && echo both || echo the last); $before transactions were committed when"
echo "the volume was destroyed, ${rows[4]} of them before the last point."
