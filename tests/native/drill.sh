#!/bin/bash
# Drills: PostgreSQL on a volume is restored to a scratch file, checked, mounted, started
# and asked; what came of it is in the repository, in show, status and the metrics. A
# damaged point, a damaged file system, a command that fails or hangs make a drill fail,
# loudly and on record. Killed in the middle, nothing of it goes on, and the next drill
# removes what it left. The daemon drills by the calendar.
#
# timeout: 240
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
[ -x /usr/lib/postgresql/15/bin/initdb ] || skip "no PostgreSQL 15"
clawback_begin "$work/repository" open
make_disk disk 160M
make_disk plain 16M
mkdir -m 700 "$work/scratch"
clawback_volume pgdata "$disk" "drill_folder = $work/scratch" "drill_key = $work/recovery.pem" \
	"drill_command = $tree/scripts/hooks/drill-postgresql --query-file $work/query"
clawback_volume plain "$plain" "drill_folder = $work/scratch" "drill_key = $work/recovery.pem"

drill() { clawback drill "$@" --json >"$work/drill.json"; }
# result FIELD: of the last drill.
result() { jq -r "select(.message_type == \"summary\") | .$1" "$work/drill.json"; }
# nothing_left: neither copy nor loop device nor process, a moment after.
left() {
	find "$work/scratch" -mindepth 1
	losetup --list --noheadings --output BACK-FILE | grep "$work/scratch" || :
	grep -l "CLAWBACK_DRILL_VOLUME=" /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
		grep -q "CLAWBACK_TEST_ID=${CLAWBACK_TEST_ID:-}" "$file" && echo "$file" || :
	done
}
is_clean() { [ -z "$(left)" ]; }
nothing_left() { wait_for 5 is_clean || fail "left: $(left)"; }

# ---- PostgreSQL on a volume --------------------------------------------------------
bin=/usr/lib/postgresql/15/bin
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
mkfs.ext4 -q -F "$disk"
mount_volume "$disk" "$work/mnt"
mkdir "$work/run" && chown postgres "$work/run" "$work/mnt" && chmod 755 "$work"
as_postgres "$bin/initdb" -D "$work/mnt/main" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -s -w -D "$work/mnt/main" -l "$work/run/log" \
	-o "-k $work/run -c listen_addresses='' -c max_wal_size=64MB -c min_wal_size=32MB" start
sql() { psql -qAt -h "$work/run" -U postgres -v ON_ERROR_STOP=1 -c "$1" postgres; }
sql "CREATE TABLE t AS SELECT n, md5(n::text) AS text FROM generate_series(1, 20000) AS n;
	CREATE INDEX ON t (n)"
sql CHECKPOINT
sql "INSERT INTO t SELECT n, 'late' FROM generate_series(20001, 20100) AS n"
# As a power cut leaves it: the server has to recover, the file system to replay.
as_postgres "$bin/pg_ctl" -s -w -D "$work/mnt/main" -m immediate stop
touch "$work/mnt/main/standby.signal"
echo 12345 >"$work/mnt/main/postmaster.pid"
umount "$work/mnt"
backup pgdata

echo "== it passes"
echo "SELECT count(*) = 20100 FROM t" >"$work/query"
clawback drill pgdata 2>"$work/err" | tee "$work/out"
sed 's/^/  /' "$work/err"
grep -q "^drill of pgdata@1 .* passed, recovered in .*, ext4$" "$work/out"
grep -q "drill-postgresql: pg_amcheck found nothing" "$work/err"
grep -q "drill-postgresql: the query answered: t" "$work/err"
for step in prepare restore attach replay check mount command cleanup; do
	grep -q "$step [0-9]" "$work/out" || fail "no step $step"
done
nothing_left
drill pgdata@1
assert_equal true "$(result passed)" "whether it passed"
jq -e '.rto_seconds > 0 and .rto_seconds <= .seconds and .recorded and .point == 1 and
	(.steps | .restore > 0 and .command > 0.1) and .data_bytes > 1000000' \
	<(result '|.') >/dev/null || fail "$(cat "$work/drill.json")"
cmp <(result rto_seconds) <(result 'steps | del(.cleanup) | [.[]] | add') ||
	awk -v a="$(result rto_seconds)" -v b="$(result 'steps | del(.cleanup) | [.[]] | add')" \
		'BEGIN { exit !(a - b < 0.001 && b - a < 0.001) }' || fail "the RTO is not the sum of its steps"

echo "== it is shown"
clawback show pgdata@1 | tee "$work/out" | grep "drill "
assert_equal 2 "$(grep -c "  drill  .* passed, recovered in" "$work/out")" "drills shown"
clawback show pgdata --json | jq -e '.drills | length == 2 and .[0].passed' >/dev/null
clawback status pgdata | grep "last drill at .* of point 1: passed, recovered in"
clawback status pgdata --json | jq -e '.volumes[0].drill | .passed and .last_passed == .time' >/dev/null
clawback status plain --json | jq -e '.volumes[0].drill == null' >/dev/null
clawback verify --data "${clawback_key[@]}"

echo "== a sample"
sample() { clawback verify pgdata "${clawback_key[@]}" --json "$@" >"$work/verify.json"; }
said() { jq -r "select(.message_type == \"summary\") | .$1" "$work/verify.json"; }
sample --data=30% --seed 7
first="$(said frames) of $(said all_frames), $(said frame_bytes) of $(said all_frame_bytes)"
echo "  $first"
jq -e 'select(.message_type == "summary") | .frames < .all_frames and .frame_bytes < .all_frame_bytes and
	.seed == 7 and .sample_percent == 30' "$work/verify.json" >/dev/null || fail "$(cat "$work/verify.json")"
sample --data=30% --seed "$(said seed)"
assert_equal "$first" "$(said frames) of $(said all_frames), $(said frame_bytes) of $(said all_frame_bytes)" \
	"the same sample again"
clawback verify pgdata --data=30% "${clawback_key[@]}" | grep "frames decrypted .*--seed [0-9]* takes the same"
sample --data --max-time 1h
assert_equal "false $(said frames)" "$(said out_of_time) $(said frames)" "out of time"
sample --data --max-time 1ms
assert_equal "true" "$(said out_of_time)" "out of time"
clawback verify pgdata --max-time 1ms | grep "the time was up at point [0-9]*, after [01] of 1 points"
sample --data --max-age 1h
assert_equal 0 "$(said passed_over)" "points passed over"
for bad in --data=0% --data=101% --data=x --max-time=0 --seed=-1; do
	assert_refused 2 "give a" clawback verify pgdata "$bad"
done

echo "== a look"
clawback drill pgdata --dry-run | tee "$work/out"
grep -q "would restore pgdata@1 .* in $work/scratch, and run $tree/scripts" "$work/out"
assert_equal 2 "$(clawback show pgdata --json | jq '.drills | length')" "drills after a look"
elsewhere=(--config /dev/null -r "file://$work/repository" --state "$work/state3")
mkdir -m 700 "$work/state3" "$work/tiny"
assert_refused 2 "say where the copy goes" "$clawback_program" drill pgdata "${elsewhere[@]}"
assert_refused 12 "give its private half" "$clawback_program" drill pgdata "${elsewhere[@]}" \
	--folder "$work/scratch"
mount -t tmpfs -o size=8M,mode=700 tmpfs "$work/tiny"
defer umount -l "$work/tiny"
assert_refused 1 "drill failed: prepare: .* 8 MiB are free there" clawback drill pgdata --folder "$work/tiny"
assert_equal 2 "$(clawback show pgdata --json | jq '[.drills[] | select(.passed)] | length')" "drills that passed"

echo "== a query that finds less"
echo "SELECT count(*) = 20101 FROM t" >"$work/query"
assert_refused 1 'drill failed: command: .*code 1: the query answered "f"' clawback drill pgdata
nothing_left
clawback status pgdata | tee "$work/out" | grep "last drill"
grep -q "FAILED at command: .*the query answered.*the last one that passed at" "$work/out"
clawback show pgdata --json | jq -e '.drills[0] | (.passed | not) and .failed_step == "command" and
	.code == 1 and .rto_seconds == null' >/dev/null

echo "== what it is told, and cannot reach"
cat >"$work/look" <<'END'
#!/bin/bash
set -e
env | sort
echo "processes: $(ls -d /proc/[0-9]* | wc -l)"
echo "networks:$(cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d '\n')"
findmnt -n -o TARGET,FSTYPE "$CLAWBACK_DRILL_MOUNT"
[ -d "$CLAWBACK_DRILL_MOUNT/main/base" ]
echo changed >"$CLAWBACK_DRILL_MOUNT/written"
touch "$TMPDIR/file" /dev/shm/left
setsid sleep 1000 >/dev/null 2>&1 &
sleep 0.2
END
chmod +x "$work/look"
clawback drill pgdata --point random --command "$work/look with arguments" 2>"$work/err" >/dev/null ||
	fail "$(cat "$work/err")"
sed 's/^/  /' "$work/err"
for said in CLAWBACK_DRILL_MOUNT=/run/clawback-drill/volume "CLAWBACK_DRILL_DEVICE=/dev/loop" \
	CLAWBACK_DRILL_VOLUME=pgdata CLAWBACK_DRILL_POINT=1 CLAWBACK_DRILL_TYPE=ext4 \
	"CLAWBACK_DRILL_TIME=20" TMPDIR=/run/clawback-drill/tmp "/run/clawback-drill/volume ext4"; do
	grep -q "look: $said" "$work/err" || fail "it was not told $said"
done
awk '/look: processes:/ { seen = $NF } END { exit !(seen > 0 && seen < 10) }' "$work/err" ||
	fail "it saw others' processes"
grep -q "look: networks: *lo$" "$work/err" || fail "it had a network"
! grep "CLAWBACK_TEST_ID\|look: HOME" "$work/err" || fail "it was told what is ours"
[ ! -e /dev/shm/left ] || fail "its shared memory stayed"
nothing_left

echo "== it hangs"
cat >"$work/hangs" <<'END'
#!/bin/bash
trap 'echo asked' TERM
setsid sleep 1000 &
while :; do sleep 0.1; done
END
chmod +x "$work/hangs"
start=$SECONDS
assert_refused 1 "command: hangs took longer than its 1 s" clawback drill pgdata \
	--command "$work/hangs" --timeout 1s
[ $((SECONDS - start)) -lt 20 ] || fail "it took $((SECONDS - start)) s"
grep -q "hangs: asked" "$work/refused.err" || fail "it was not asked to end before it was killed"
nothing_left

echo "== interrupted, and killed"
cat >"$work/waits" <<END
#!/bin/bash
setsid sleep 1000 &
touch "$work/waiting"
sleep 1000
END
chmod +x "$work/waits"
waiting() { [ -e "$work/waiting" ]; }
clawback_start drill pgdata --command "$work/waits"
wait_for 20 waiting
kill -INT "$clawback_pid"
code=0
clawback_wait || code=$?
assert_equal 130 $code "exit code"
nothing_left
for signal in KILL; do
	rm "$work/waiting"
	clawback_start drill pgdata --command "$work/waits"
	wait_for 20 waiting
	kill -$signal "$clawback_pid"
	clawback_wait || :
	gone() { [ -z "$(losetup --list --noheadings --output BACK-FILE | grep "$work/scratch")" ]; }
	wait_for 5 gone
	pgrep -f "$work/waits" >/dev/null && fail "its command goes on"
	[ -n "$(find "$work/scratch" -mindepth 1)" ] || fail "nothing to be removed: the test is wrong"
	drill plain 2>"$work/err" && fail "a drill without a point passed"
	clawback drill pgdata --command none >/dev/null 2>"$work/err" || fail "$(cat "$work/err")"
	grep -q "removed what a drill left" "$work/err"
	nothing_left
done

echo "== over a device"
make_disk spare 200M
make_disk small 16M
assert_refused 1 "restore: .*it has 16777216 bytes, the volume 167772160" \
	clawback drill pgdata --device "$small" -o "volume pgdata.drill_command=none"
drill pgdata --device "$spare" --command none
assert_equal true "$(result passed)" "whether it passed"
mount_volume "$spare" "$work/mnt2"
[ -d "$work/mnt2/main/base" ] || fail "it is not on the device"
assert_refused 1 "it is in use" clawback drill pgdata --device "$spare" --command none
unmount_volume "$work/mnt2"

echo "== no file system, and XFS beside its original"
head -c 1M /dev/urandom >"$plain"
backup plain
drill plain
jq -e '.passed and .file_system == "" and (.steps | has("check") or has("mount") | not)' \
	<(result '|.') >/dev/null || fail "$(cat "$work/drill.json")"
make_disk xfs 320M
clawback_volume xfs "$xfs" "drill_folder = $work/scratch" "drill_key = $work/recovery.pem"
if mkfs.xfs -q -f "$xfs"; then
	mount_volume "$xfs" "$work/mnt3"
	echo content >"$work/mnt3/file"
	unmount_volume "$work/mnt3"
	backup xfs
	mount_volume "$xfs" "$work/mnt3"
	drill xfs
	assert_equal "true xfs" "$(result passed) $(result file_system)" "a drill of XFS"
	unmount_volume "$work/mnt3"
fi

echo "== a damaged file system"
mount_volume "$disk" "$work/mnt"
unmount_volume "$work/mnt"
debugfs -w -R "clri /main/base" "$disk" 2>/dev/null
backup pgdata
assert_refused 1 "drill failed: check: e2fsck ended with code 4" clawback drill pgdata --command none
nothing_left

echo "== a damaged point"
volume_id=$(clawback show pgdata --json | jq -r .volume_id)
for segment in "$work/repository/$volume_id"/segments/*; do
	printf 'damage' | dd of="$segment" bs=1 seek=$(($(stat -c %s "$segment") / 2)) conv=notrunc status=none
done
assert_refused 13 "drill failed: restore: " clawback drill pgdata@1
nothing_left
clawback show pgdata@1 | grep "drill .* FAILED at restore"
clawback show pgdata@1 --json | jq -e '.drills[0].code == 13' >/dev/null

echo "== a machine without the host's key"
"$clawback_program" drill plain "${elsewhere[@]}" --folder "$work/scratch" "${clawback_key[@]}" \
	--json >"$work/drill.json" 2>"$work/err"
grep -q "recorded in $work/state3 only" "$work/err" || fail "$(cat "$work/err")"
assert_equal "true false" "$(result passed) $(result recorded)" "passed and recorded"
jq -e '.last.passed' "$work/state3/drills/plain.json" >/dev/null

echo "== by the daemon"
log=$work/background.out
events() { jq -n "[inputs | select($1)] | length" "$log" 2>/dev/null || echo 0; }
has_events() { [ "$(events "$2")" -ge "$1" ]; }
cat >"$work/tell" <<END
#!/bin/bash
cat >>"$work/told"
echo >>"$work/told"
END
chmod +x "$work/tell"
printf '\n[notify]\ncommand = %s\n' "$work/tell" >>"$clawback_config"
# *:*:0/2 is every two seconds.
clawback_start protect --json -o "volume plain.rpo=1h" -o "volume plain.drill=*:*:0/2" \
	-o "agent.metrics=$work/metrics.prom"
wait_for 30 has_events 1 '.message_type == "drill_passed" and .volume == "plain"'
metric() { sed -n "s/^clawback_drill_$1{volume=\"$2\"} //p" "$work/metrics.prom"; }
has_metric() { [ -n "$(metric success plain)" ]; }
wait_for 20 has_metric
assert_equal 1 "$(metric success plain)" "clawback_drill_success"
assert_equal 0 "$(metric success pgdata)" "clawback_drill_success of pgdata"
awk -v at="$(metric last_timestamp_seconds plain)" -v now="$(date +%s)" -v rto="$(metric rto_seconds plain)" \
	'BEGIN { exit !(now - at < 30 && rto > 0 && rto < 30) }' || fail "$(grep drill "$work/metrics.prom")"
[ ! -e "$work/told" ] || fail "told of what went well: $(cat "$work/told")"
kill -TERM "$clawback_pid"
clawback_wait
clawback_start protect --json -o "volume plain.rpo=1h" -o "volume plain.drill=*:*:0/2" \
	-o "volume plain.drill_command=/bin/false"
wait_for 30 has_events 1 '.message_type == "drill_failed" and .drill.failed_step == "command"'
is_told() { grep -q '"event": *"drill_failed"' "$work/told" 2>/dev/null; }
wait_for 10 is_told
assert_equal 1 "$(grep -c drill_failed "$work/told")" "messages"
clawback status plain | grep "last drill .* FAILED at command: false ended with code 1"
kill -TERM "$clawback_pid"
clawback_wait
nothing_left
clawback_end
