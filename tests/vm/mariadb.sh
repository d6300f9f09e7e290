#!/bin/bash
# MariaDB under load on a device-mapper volume, points taken with the hook mariadb-lock,
# the volume destroyed, restored: every table is sound without repair, MyISAM's too, and
# what the client knew to be committed before the instant is there, and nothing after.
#
# full-only: yes
# kernels: 6.12
# guest: udev 2048M disk=256M disk=256M
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/mariadb.sh

started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }
modprobe -q -a dm-snapshot loop || true
# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
bytes=$((224 << 20))
make_linear_volume volume mydata "$1" $((bytes / 512))
make_linear_volume new mynew "$2" $((bytes / 512))

step "a server on a device-mapper volume"
mkfs.ext4 -q -E lazy_itable_init=0 "$volume"
mount_volume "$volume" "$work/mnt"
my_start "$work/mnt"
my_sql "CREATE DATABASE lab; CREATE TABLE lab.rows (n BIGINT AUTO_INCREMENT PRIMARY KEY, t DOUBLE) ENGINE=InnoDB;
	CREATE TABLE lab.isam (n BIGINT AUTO_INCREMENT PRIMARY KEY, t DOUBLE) ENGINE=MyISAM;
	CREATE TABLE lab.aria (n BIGINT AUTO_INCREMENT PRIMARY KEY, t DOUBLE) ENGINE=Aria"

# The hook, and what the client knew when it held and when it was told to let go.
cat >"$work/hook" <<-END
	#!/bin/bash
	coproc lock { exec "$tree/scripts/hooks/mariadb-lock" ${my_client[*]}; }
	pid=\$lock_PID
	exec {heard}<&"\${lock[0]}" {told}>&"\${lock[1]}"
	eval "exec \${lock[0]}<&- \${lock[1]}>&-"
	read -r word <&"\$heard"
	wc -l <"$work/written" >"$work/at-ready"
	echo "\$word"
	read -r line
	wc -l <"$work/written" >"$work/at-release"
	echo "\$line" >&"\$told"
	exec {told}>&-
	wait "\$pid"
END
chmod 755 "$work/hook"

step "points under load"
clawback_begin "$work/repository" open
clawback_volume mydata "$volume" "hook = $work/hook"
my_writer lab.rows lab.isam lab.aria
known=()
for number in 1 2 3; do
	backup mydata
	assert_equal application "$(clawback show "mydata@$number" --json | jq -r .consistency)" "the consistency"
	known[$number]=$(cat "$work/at-ready")
	# One answer may have been under way.
	[ $(($(cat "$work/at-release") - known[number])) -le 1 ] || fail "the client went on while it was held"
	echo "  ${known[number]} rounds were known to be committed"
	sleep 2
done
assert_kind incremental
my_writer_stop
written=$(my_written)

step "the volume is destroyed"
my_kill
umount "$work/mnt"
dd if=/dev/zero of="$volume" bs=1M count=$((bytes >> 20)) oflag=direct status=none

for number in 3 2; do
	step "point $number restored; the server started from it"
	assert_restores "mydata@$number" "$new"
	mount_volume "$new" "$work/new"
	my_start "$work/new"
	mariadb-check "${my_client[@]}" --all-databases --check --extended >"$work/check"
	! grep -v ' OK$' "$work/check" || fail "mariadb-check found something"
	read -r rows isam aria < <(my_sql "SELECT (SELECT MAX(n) FROM lab.rows), (SELECT MAX(n) FROM lab.isam), (SELECT MAX(n) FROM lab.aria)")
	echo "  ${known[number]} known; rows $rows, isam $isam, aria $aria; $(wc -l <"$work/check") tables are sound"
	# One round may have been under way, or its answer.
	for count in "$rows" "$isam" "$aria"; do
		[ "$count" -ge "${known[number]}" ] && [ "$count" -le $((known[number] + 1)) ] ||
			fail "point $number has $count rows, and ${known[number]} were known"
	done
	[ "$rows" -ge "$isam" ] && [ "$isam" -ge "$aria" ] || fail "the order of writes is broken"
	logged=$(mariadb-binlog --no-defaults "$work"/new/data/binlog.0* | grep -c 'INSERT INTO lab.rows')
	assert_equal "$rows" "$logged" "rows, and what the binary log has of them"
	my_stop
	umount "$work/new"
done
[ "$written" -gt "${known[3]}" ] || fail "nothing was written after the last point"
clawback verify --data "${clawback_key[@]}" >/dev/null
clawback_end
