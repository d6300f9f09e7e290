#!/bin/bash
# The hook mariadb-lock on a real server: while it holds, nothing is written; it lets go
# when it is told to, and when it or the agent is killed; what fails about it fails the run,
# or is a warning, as configured.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh
. tests/lib/mariadb.sh

[ "$(id -u)" = 0 ] || skip "not root"
hook=$tree/scripts/hooks/mariadb-lock
since_ms() { echo $((($(date +%s%N) - $1) / 1000000)); }
my_start "$work/my"
my_sql "CREATE DATABASE lab; CREATE TABLE lab.rows (n BIGINT AUTO_INCREMENT PRIMARY KEY, t DOUBLE) ENGINE=InnoDB;
	CREATE TABLE lab.aria (n BIGINT AUTO_INCREMENT PRIMARY KEY, t DOUBLE) ENGINE=Aria"

clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "hook = $hook ${my_client[*]}"
consistency() { clawback show v@latest --json | jq -r .consistency; }
goes_on() { [ "$(my_written)" -gt "$1" ]; }

# hold: an agent, whose death kills the hook as clawback's does, that holds; sets agent and
# held. It releases when there is a file "release", and then tells the code.
hold() {
	rm -f "$work"/{in,said,code,release}
	mkfifo "$work/in"
	(
		setpriv --pdeathsig KILL setsid "$hook" "${my_client[@]}" <"$work/in" >"$work/said" 2>"$work/hook.err" &
		echo $! >"$work/held"
		exec 9>"$work/in"
		until [ -e "$work/release" ]; do sleep 0.05; done
		echo "release ok" >&9
		exec 9>&-
		code=0
		wait $! || code=$?
		echo $code >"$work/code"
	) &
	agent=$!
	defer clawback_stop $agent
	wait_for 10 test -s "$work/said"
	held=$(cat "$work/held")
	assert_equal ready "$(cat "$work/said")" "what the hook said ($(cat "$work/hook.err"))"
}
# assert_still: nothing is written.
assert_still() {
	local before
	before=$(my_written)
	sleep "$1"
	assert_equal "$before" "$(my_written)" "rows written while it holds"
}

echo "== while it holds nothing is written, in no engine"
for table in rows aria; do
	my_writer "lab.$table"
	hold
	assert_still 0.5
	before=$(my_written)
	touch "$work/release"
	wait_for 5 goes_on "$before"
	wait_for 5 test -s "$work/code"
	assert_equal 0 "$(cat "$work/code")" "the hook's exit code"
	wait $agent
	my_writer_stop
	echo "  $table: $before rows before"
done

echo "== killed while it holds, 20 times"
my_writer lab.rows
longest=0
for turn in {1..20}; do
	hold
	before=$(my_written)
	start=$(date +%s%N)
	# The agent, or the hook.
	[ $((turn % 2)) = 0 ] && kill -KILL $agent || kill -KILL "$held"
	until goes_on "$before"; do
		[ "$(since_ms "$start")" -lt 2000 ] || fail "turn $turn: nothing is written 2 s after"
		sleep 0.01
	done
	took=$(since_ms "$start")
	[ "$took" -le $longest ] || longest=$took
	kill -KILL $agent 2>/dev/null || true
	wait $agent 2>/dev/null || true
done
echo "  written again after $longest ms at most"

echo "== its session is taken away from it: it says so"
hold
before=$(my_written)
my_sql "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist
	WHERE id <> CONNECTION_ID() AND command = 'Sleep' AND user = 'root'" >"$work/kill.sql"
assert_equal 1 "$(wc -l <"$work/kill.sql")" "idle sessions: the hook's"
mariadb "${my_client[@]}" <"$work/kill.sql"
wait_for 5 goes_on "$before"
touch "$work/release"
wait_for 10 test -s "$work/code"
[ "$(cat "$work/code")" != 0 ] || fail "the hook ends as if it had held"
wait $agent

echo "== with clawback, under load"
flushes() { my_sql "SHOW GLOBAL STATUS LIKE 'Com_flush'" | cut -f 2; }
had=$(flushes)
clawback backup v --json >"$work/out" 2>"$work/err" || fail "$(cat "$work/err")"
assert_equal application "$(consistency)" "the consistency"
assert_equal $((had + 1)) "$(flushes)" "its lock"
before=$(my_written)
wait_for 5 goes_on "$before"

echo "== a lock that is not to be had keeps writers for hook_timeout only"
my_sql "LOCK TABLES lab.aria WRITE; SELECT SLEEP(60)" >/dev/null 2>&1 &
blocker=$!
defer clawback_stop $blocker
sleeps() { my_sql "SHOW PROCESSLIST" | grep -q 'SLEEP(60)'; }
wait_for 5 sleeps
assert_refused 1 "it was not ready within 1 s" clawback backup v -o "volume v.hook_timeout=1s"
before=$(my_written)
start=$(date +%s%N)
wait_for 5 goes_on "$before"
echo "  written again after $(since_ms "$start") ms"
clawback backup v -o "volume v.hook_timeout=1s" -o "volume v.hook_failure=continue" >/dev/null 2>"$work/err"
grep -q "warning: hook .*going on without it" "$work/err" || fail "no warning: $(cat "$work/err")"
assert_equal unmounted "$(consistency)" "the consistency"
kill -KILL $blocker

echo "== no server"
my_writer_stop
my_stop
assert_refused 1 "it said that it failed\|before it was ready" clawback backup v
grep -q "hook mariadb-lock: .*ERROR 2002" "$work/refused.err" || fail "what the client said is lost"
clawback_end
