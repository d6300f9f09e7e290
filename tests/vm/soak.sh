#!/bin/bash
# Hundreds of cycles of the daemon over PostgreSQL's data and WAL volumes, in one group,
# while clients write: of every ten points one, taken by chance, is restored and started;
# pg_amcheck finds nothing, the books balance, and every transaction is there that a
# client knew to be committed before the point's instant. Says which RPO was achieved.
# A second store is away for ten minutes of it: cycles go on, and it has everything at the end.
#
# CLAWBACK_SOAK_CYCLES   how many cycles (300)
# CLAWBACK_SOAK_RPO      the objective, in seconds (8, which the emulated guest can hold)
# CLAWBACK_SOAK_SECONDS  after which it ends with what it has by then (6600)
# CLAWBACK_SOAK_TPS      pgbench's rate (10)
# CLAWBACK_SOAK_OUTAGE   seconds for which the second store is away (600)
#
# kernels: 6.12
# guest: plain 3072M disk=160M disk=96M disk=160M disk=96M disk=8G
# timeout: 7200
# full-only: yes
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

cycles=${CLAWBACK_SOAK_CYCLES:-300} rpo=${CLAWBACK_SOAK_RPO:-8}
tps=${CLAWBACK_SOAK_TPS:-10} limit=${CLAWBACK_SOAK_SECONDS:-6600} outage=${CLAWBACK_SOAK_OUTAGE:-600}
RANDOM=$CLAWBACK_SEED
started=$SECONDS
step() { printf '== %s (%d s)\n' "$*" $((SECONDS - started)); }

# ---- PostgreSQL, its WAL on a volume of its own -------------------------------------
up() {	# DATA WAL SOCKET
	as_postgres "$pg_bin/pg_ctl" -s -w -t 180 -D "$1/pg" -l "$3/log" -o \
		"-k $3 -c listen_addresses= -c max_wal_size=32MB -c shared_buffers=32MB" start ||
		fail "PostgreSQL did not start: $(tail -n 20 "$3/log")"
}
down() {	# DATA MODE
	as_postgres "$pg_bin/pg_ctl" -s -w -t 120 -D "$1/pg" -m "$2" stop
}
down_if_up() { [ ! -e "$1/pg/postmaster.pid" ] || down "$1" immediate; }
query() { as_postgres "$pg_bin/psql" -X -h "$1" -qAt -v ON_ERROR_STOP=1 -c "$2" postgres; }
bench=(setpriv --reuid postgres --regid postgres --init-groups "$pg_bin/pgbench" -h "$work/sock" -n -c 2)
bench_tps() { "${bench[@]}" -T "$1" postgres | sed -n 's/^tps = \([0-9.]*\) .*/\1/p'; }

# Commits one number after another; after each answer, the number and when it came.
ledger_client() {
	local number=0 answer
	trap - ERR
	coproc psql { as_postgres "$pg_bin/psql" -X -h "$work/sock" -qAt -v ON_ERROR_STOP=1 postgres; }
	exec >>"$work/ledger"
	while :; do
		number=$((number + 1))
		printf '%s\n' "insert into ledger values ($number);" '\echo committed' >&"${psql[1]}"
		read -r answer <&"${psql[0]}" || return
		[ "$answer" = committed ] || return
		echo "$number $EPOCHREALTIME"
		echo 'select pg_sleep(0.05) \g /dev/null' >&"${psql[1]}"
	done
}

# ---- what is looked at ----------------------------------------------------------------
log=$work/background.out
ended() { grep -c '"cycle_ended"' "$log" || true; }
has_ended() { [ "$(ended)" -ge "$1" ]; }
goes_on() {
	local pid
	for pid in "$clawback_pid" "$ledger" "$load"; do
		kill -0 "$pid" 2>/dev/null || fail "a process of the soak ended: $(tail -n 3 \
			"$work/background.err" "$work/pgbench.log" "$work/ledger")"
	done
}
last_cycle() {
	grep '"cycle_ended"' "$log" | tail -n 1 |
		sed -n 's/.*"seconds": *\([0-9.]*\).*"rpo_seconds": *\([0-9.]*\).*/took \1 s, its oldest write was at most \2 s old/p'
}
# ended_or_dead COUNT: for wait_for, which a dead daemon must not keep waiting.
ended_or_dead() { goes_on; has_ended "$1" || is_late; }
is_late() { [ $((SECONDS - started)) -ge "$limit" ]; }

# known_before TIME: the last number that the client knew to be committed by then.
known_before() {
	awk -v limit="$(date -d "$1" +%s.%N)" '$2 >= limit { exit } { last = $1 } END { print last + 0 }' \
		"$work/ledger"
}

# check_point NUMBER: onto other disks, started, looked through.
check_point() {
	local number=$1 time known name last count
	time=$(clawback show "data@$number" --json | jq -r .time)
	assert_equal "$time" "$(clawback show "wal@$number" --json | jq -r .time)" "the points' times"
	known=$(known_before "$time")
	for name in data wal; do
		clawback restore "$name@$number" --to "/dev/mapper/new$name" --force \
			"${clawback_key[@]}" >"$work/restore.out" || fail "restoring $name@$number"
		mount_volume "/dev/mapper/new$name" "$work/new$name"
	done
	defer down_if_up "$work/newdata"
	# The instant's server is not dead here: its number is the other server's.
	rm -f "$work/newdata/pg/postmaster.pid"
	ln -sfn "$work/newwal/wal" "$work/newdata/pg/pg_wal"
	up "$work/newdata" "$work/newwal" "$work/newsock"
	as_postgres "$pg_bin/pg_amcheck" -h "$work/newsock" postgres || fail "point $number: pg_amcheck found damage"
	assert_equal t "$(query "$work/newsock" "select (select sum(abalance) from pgbench_accounts) =
		(select coalesce(sum(delta), 0) from pgbench_history)")" "the books of point $number balance"
	IFS='|' read -r last count < <(query "$work/newsock" "select coalesce(max(n), 0), count(*) from ledger")
	assert_equal "$last" "$count" "point $number: numbers without gaps"
	[ "$last" -ge "$known" ] ||
		fail "point $number of $time ends with number $last, and $known was committed before"
	down "$work/newdata" fast
	umount "$work/newdata" "$work/newwal"
	restored=$((restored + 1))
	echo "  point $number: $known known to be committed before, $last there; pg_amcheck clean"
}

# ---- the second store's outage ---------------------------------------------------------
away_since='' away_from=0 away_to=0
lacking() { clawback status data --json | jq -r '.volumes[0].stores[0].lag_points'; }
outage_begin() {
	step "the second store is away for $outage s"
	mv "$work/store/second" "$work/store/away"
	away_since=$SECONDS away_from=$(ended)
}
outage_over() { goes_on; [ $((SECONDS - away_since)) -ge "$outage" ]; }
outage_end() {
	away_to=$(ended)
	step "it is back; it lacks $(lacking) points"
	[ "$(lacking)" -ge $((away_to - away_from)) ] || fail "it should lack what was stored meanwhile"
	mv "$work/store/away" "$work/store/second"
}
caught_up() { goes_on; [ "$(lacking)" = 0 ]; }
of_second() { jq -n --arg type "$1" '[inputs | select(.message_type == $type and .store == "second")] | length' "$log"; }
newest_of() { clawback points data --store "$1" --json | jq -r '.points[-20:][].number'; }

# distribution UNIT: p50, p99 and the greatest of the numbers on stdin.
distribution() {
	sort -n | awk -v unit="$1" '{ all[NR] = $1 }
		function rank(p, at) { at = int(p * NR); if (at < p * NR) at++; return all[at] }
		END { printf "p50 %.2f, p99 %.2f, max %.2f %s of %d", rank(.5), rank(.99), all[NR], unit, NR }'
}

# ---- the stage ------------------------------------------------------------------------
[ -n "$pg_bin" ] || skip "no PostgreSQL: run scripts/bootstrap"
chmod 755 "$work"
# shellcheck disable=SC2086
set -- ${CLAWBACK_DISKS:?}
make_linear_volume data labdata "$1"
make_linear_volume wal labwal "$2"
make_linear_volume newdata newdata "$3"
make_linear_volume newwal newwal "$4"
for device in "$data" "$wal" "$5"; do
	mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$device"
done
mount_volume "$5" "$work/store"
mount_volume "$data" "$work/data"
mount_volume "$wal" "$work/wal"
install -d -o postgres -m 700 "$work/data/pg" "$work/wal/wal"
as_postgres "$pg_bin/initdb" -D "$work/data/pg" -X "$work/wal/wal" -A trust --no-sync --wal-segsize=4 \
	>"$work/initdb.log"
install -d -o postgres "$work/sock" "$work/newsock"
defer down_if_up "$work/data"
up "$work/data" "$work/wal" "$work/sock"
as_postgres "$pg_bin/pgbench" -h "$work/sock" -i -q -s 1 postgres 2>/dev/null
query "$work/sock" "create extension amcheck; create table ledger (n bigint primary key)"

clawback_begin "$work/store/repository" open
clawback_volume data "$data" group=pg
clawback_volume wal "$wal" group=pg
printf '[group pg]\nrpo = %ss\n[store second]\nurl = file://%s\nlag_warning = 1min\n' "$rpo" \
	"$work/store/second" >>"$clawback_config"

step "pgbench as fast as it can, without clawback"
tps_without=$(bench_tps 30)
clawback_start protect --json
wait_for 180 has_ended 2
step "the same, with the daemon"
tps_with=$(bench_tps 45)

step "pgbench at $tps a second, and a client that remembers"
ledger_client &
ledger=$!
defer clawback_stop $ledger
"${bench[@]}" -T 100000 -R "$tps" postgres >"$work/pgbench.log" 2>&1 &
load=$!
defer clawback_stop $load
wait_for 120 test -s "$work/ledger"
first=$(ended)

restored=0
for ((ten = 10; ten <= cycles; ten += 10)); do
	wait_for $((120 + 20 * rpo)) ended_or_dead $((first + ten))
	! is_late || break
	read -ra points <<<"$(points data)"
	step "cycle $(($(ended) - first)): $(last_cycle)"
	check_point "${points[-1 - RANDOM % 10]}"
	# What production does meanwhile.
	clawback forget data wal --keep-last 20 >"$work/forget.out"
	clawback prune --grace 1m >"$work/prune.out"
	[ $((ten / 10)) != $(((cycles + 20) / 30)) ] || outage_begin
	[ -z "$away_since" ] || [ "$away_to" != 0 ] || ! outage_over || outage_end
done
[ "$away_to" != 0 ] || { wait_for $((outage + 60)) outage_over; outage_end; }
wait_for 600 caught_up
step "it has all points"

# ---- the end -----------------------------------------------------------------------------
step "stopped"
done_cycles=$(($(ended) - first))
kill -TERM "$clawback_pid"
clawback_wait
kill "$ledger" "$load"
wait "$ledger" "$load" || true
down "$work/data" fast
assert_no_helpers
failed=$(grep -c '"cycle_failed"' "$log" || true)
missed=$(grep -c '"rpo_missed"' "$log" || true)
assert_equal 0 "$failed" "failed cycles"
[ "$(of_second store_failed)" -gt 0 ] || fail "nobody said that the second store was away"
[ "$outage" -lt 120 ] || [ "$(of_second store_lags)" -gt 0 ] || fail "nobody said that the second store lags"
assert_equal 0 "$(jq -n '[inputs | select(.message_type == "cycle_ended") | .points[] |
	select(.rescan or (.kind == "full" and .point > 1))] | length' "$log")" "fulls and rescans after the first"

# By the daemon; the same from the points alone: each stored, less the instant before.
daemon_rpo=$(jq -r 'select(.message_type == "cycle_ended") | .rpo_seconds' "$log" |
	tail -n +$((first + 1)) | distribution s)
away_rpo=$(jq -r 'select(.message_type == "cycle_ended") | .rpo_seconds' "$log" |
	sed -n "$((away_from + 1)),${away_to}p" | distribution s)
seconds=$(jq -r 'select(.message_type == "cycle_ended") | .seconds' "$log" | tail -n +$((first + 1)) |
	distribution s)
points_rpo=$(clawback points data --json | jq -r '.points[] | .time, .committed' | while read -r time &&
	read -r committed; do
	echo "$(date -d "$time" +%s.%N) $(date -d "$committed" +%s.%N)"
done | awk 'NR > 1 { printf "%.3f\n", $2 - before } { before = $1 }' | distribution s)
clawback replicate	# the point that the stop may have overtaken
for store in repository second; do
	clawback verify --data --store $store "${clawback_key[@]}"
done
assert_equal "$(newest_of repository)" "$(newest_of second)" "the newest points in the second store"
for store in repository second; do
	clawback restore data --store $store --to /dev/mapper/newdata --force "${clawback_key[@]}" >"$work/restore.out"
	sha256sum <"/dev/mapper/newdata" >"$work/sum.$store"
done
cmp "$work/sum.repository" "$work/sum.second" || fail "the second store restores another image"
umount "$work/data" "$work/wal"
for name in data wal; do
	clawback backup "$name" >"$work/last.out"
	clawback restore "$name" --to "/dev/mapper/new$name" --force "${clawback_key[@]}" >"$work/restore.out"
	assert_same "/dev/mapper/lab$name" "/dev/mapper/new$name"
done
clawback_end

step "done"
echo "cycles: $done_cycles done, $failed failed, objective of $rpo s missed $missed times"
echo "points restored and started: $restored"
echo "RPO achieved, by the daemon: $daemon_rpo"
echo "RPO achieved, by the points that are left: $points_rpo"
echo "while the second store was away: $((away_to - away_from)) cycles, $away_rpo"
echo "a cycle took: $seconds"
echo "pgbench: $tps_without tps without, $tps_with tps with the daemon"
