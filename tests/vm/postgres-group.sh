#!/bin/bash
# PostgreSQL with its WAL on a volume of its own, both in one group with the hook
# postgresql-checkpoint, under load: both destroyed and restored, the server recovers by
# itself, its indexes are sound, and all is there that the client knew to be committed.
#
# full-only: yes
# kernels: 6.12
# guest: udev 2048M disk=256M disk=256M
# timeout: 900
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }
modprobe -q -a dm-snapshot loop || true
# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
bytes=$((192 << 20))
make_linear_volume data pgdata "$1" $((bytes / 512))
make_linear_volume wal pgwal "$2" $((bytes / 512))
chmod 755 "$work"

mount_both() {
	mount_volume "$data" "$work/data"
	mount_volume "$wal" "$work/wal"
}
unmount_both() { umount "$work/data" "$work/wal"; }

step "a cluster whose WAL lies on another volume"
mkfs.ext4 -q -E lazy_itable_init=0 "$data"
mkfs.ext4 -q -E lazy_itable_init=0 "$wal"
mount_both
install -d -o postgres -m 700 "$work/data/data" "$work/wal/pg"
(cd / && as_postgres "$pg_bin/initdb" -D "$work/data/data" --waldir="$work/wal/pg/wal" -A trust \
	--no-sync --wal-segsize=4 >/dev/null)
pg_start "$work/data"
pg_sql "$work/data" "CREATE TABLE rows (n bigserial PRIMARY KEY, t timestamptz)" "CREATE EXTENSION amcheck"

step "points of both under load"
clawback_begin "$work/repository" open
clawback_volume pgdata "$data" group=pg
clawback_volume pgwal "$wal" group=pg
printf '[group pg]\nhook = %s --host=%s\n' "$tree/scripts/hooks/postgresql-checkpoint" "$work/data/run" >>"$clawback_config"
"$pg_bin/psql" -X -q -A -t -U postgres -h "$work/data/run" >"$work/written" 2>&1 < <(while :; do
	echo "INSERT INTO rows (t) VALUES (now()) RETURNING n;"
done) &
writer=$!
defer clawback_stop $writer
wait_for 30 test -s "$work/written"
# Known before the run begins, so before its instant.
known=()
for number in 1 2 3; do
	known[$number]=$(tail -n 1 "$work/written")
	backup pg
	assert_equal application "$(clawback show "pgwal@$number" --json | jq -r .consistency)" "the consistency"
	assert_equal "$(clawback show "pgdata@$number" --json | jq -r .time)" \
		"$(clawback show "pgwal@$number" --json | jq -r .time)" "the instants of points $number"
	kill -0 $writer || fail "the writer ended: $(tail -n 2 "$work/written")"
	sleep 2
done
last=$(tail -n 1 "$work/written")

step "both volumes are destroyed"
kill -KILL $writer
wait $writer 2>/dev/null || true
pg_stop "$work/data" immediate
unmount_both
for volume in "$data" "$wal"; do
	dd if=/dev/zero of="$volume" bs=1M count=$((bytes >> 20)) oflag=direct status=none
done

for number in 3 2; do
	step "points $number restored; the server started from them"
	assert_restores "pgdata@$number" "$data"
	assert_restores "pgwal@$number" "$wal"
	mount_both
	# What was told before lies on the volume, too.
	: >"$work/data/run/log"
	pg_start "$work/data"
	grep -q "automatic recovery in progress" "$work/data/run/log" || fail "nothing was recovered"
	as_postgres "$pg_bin/pg_amcheck" -h "$work/data/run" postgres || fail "pg_amcheck found damage"
	read -r top < <(pg_sql "$work/data" "SELECT max(n) FROM rows")
	count=$(pg_sql "$work/data" "SELECT count(*) FROM rows WHERE n <= ${known[number]}")
	echo "  ${known[number]} known before, $top are there, $last were written in all"
	assert_equal "${known[number]}" "$count" "of the rows that were known to be committed"
	[ "$top" -le $((last + 1)) ] || fail "more rows than were written"
	pg_stop "$work/data"
	unmount_both
done
clawback_end
