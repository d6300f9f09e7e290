#!/bin/bash
# The hook mongodb-lock leaves no server locked, whatever dies: the agent, the hook, who
# watches over it, or the server's answers. Debian has no MongoDB, so mongosh and the
# server are stand-ins here, which know as much of them as the hook uses.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
# A folder for the hook's locks, and a PATH with the stand-in, of our own.
mount -t tmpfs -o mode=755 run /run
defer umount /run
server=$work/server
mkdir "$server" "$work/bin"
mount -t tmpfs -o mode=755 bin /usr/local/sbin
defer umount /usr/local/sbin

# What the hook asks of it: a count of locks, which outlives who asked for it.
cat >/usr/local/sbin/mongosh <<-'END'
	#!/bin/bash
	# A stand-in for mongosh(1), and for the server.
	server=@server@
	code=${!#}
	[ -e "$server/up" ] || { echo "MongoNetworkError: connect ECONNREFUSED" >&2; exit 1; }
	exec 9>>"$server/lock"
	flock 9
	count=$(<"$server/count")
	case $code in
	*fsyncUnlock*)
		echo "$(date +%s%N) unlock $count" >>"$server/log"
		[ "$count" -gt 0 ] || { echo "clawback free"; exit 0; }
		echo $((count - 1)) >"$server/count"
		echo "clawback released" ;;
	*"fsync: 1, lock: true"*)
		[ ! -e "$server/kill-first" ] || kill -KILL "$(<"$server/kill-first")"
		[ ! -e "$server/slow" ] || sleep "$(<"$server/slow")"
		echo $((count + 1)) >"$server/count"
		echo "$(date +%s%N) lock $count" >>"$server/log"
		[ ! -e "$server/kill-then" ] || kill -KILL "$(<"$server/kill-then")"
		[ "$count" = 0 ] && echo "clawback held" || echo "clawback shared" ;;
	*) echo "SyntaxError: $code" >&2; exit 1 ;;
	esac
END
sed -i "s|@server@|$server|" /usr/local/sbin/mongosh
chmod 755 /usr/local/sbin/mongosh
export PATH=/usr/local/sbin:$PATH

count() { cat "$server/count"; }
is_free() { [ "$(count)" = 0 ]; }
fresh() {
	rm -f "$server"/*
	echo 0 >"$server/count"
	: >"$server/log"
	touch "$server/up"
}
hook=$tree/scripts/hooks/mongodb-lock
watchers() { pgrep -f -- "$hook --watch" || true; }
no_watcher() { [ -z "$(watchers)" ]; }
since_ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

# hold [ARG]...: an agent, whose death kills the hook as clawback's does, that holds;
# sets agent and held. It releases when there is a file "release", and then tells the code.
hold() {
	rm -f "$work"/{in,said,code,release}
	mkfifo "$work/in"
	(
		setpriv --pdeathsig KILL setsid "$hook" "$@" <"$work/in" >"$work/said" 2>"$work/hook.err" &
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
# release CODE: the hook ends with it.
release() {
	touch "$work/release"
	wait_for 10 test -s "$work/code"
	assert_equal "$1" "$(cat "$work/code")" "the hook's exit code ($(cat "$work/hook.err"))"
	wait $agent
}
# freed_soon WHAT: not locked any more in 2 s, and nobody left who watches.
longest=0
freed_soon() {
	local start took
	start=$(date +%s%N)
	until is_free; do
		[ "$(since_ms "$start")" -lt 2000 ] || fail "it is still locked 2 s after $1"
		sleep 0.02
	done
	took=$(since_ms "$start")
	[ "$took" -le "$longest" ] || longest=$took
	wait_for 5 no_watcher
	kill -KILL "$agent" 2>/dev/null || true
	wait "$agent" 2>/dev/null || true
}

clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "hook = $hook --port 27017"
consistency() { clawback show v@latest --json | jq -r .consistency; }

echo "== it holds, and lets go"
fresh
clawback backup v --json >"$work/out" 2>"$work/err" || fail "$(cat "$work/err")"
assert_equal application "$(consistency)" "the consistency"
assert_equal "lock 0 unlock 1" "$(cut -d ' ' -f 2- "$server/log" | xargs)" "what the server was asked"
wait_for 5 no_watcher

echo "== whatever dies while it is locked"
for _ in 1 2 3 4 5; do
	for who in agent hook group; do
		fresh
		hold
		case $who in
		agent) kill -KILL $agent ;;
		hook) kill -KILL "$held" ;;
		group) kill -KILL -- "-$held" ;;
		esac
		freed_soon "its $who was killed"
	done
done
echo "  15 times, in at most $longest ms"

echo "== who watches is killed: the hook lets go itself"
fresh
hold
kill -KILL $(watchers)
release 0
assert_equal 0 "$(count)" "locks"

echo "== the server does not answer for a while"
fresh
hold
rm "$server/up"
kill -KILL $agent
sleep 1.5
assert_equal 1 "$(count)" "locks"
touch "$server/up"
freed_soon "it answers again"
fresh
hold
rm "$server/up"
release 1
grep -q "could not be unlocked" "$work/hook.err"
touch "$server/up"
freed_soon "it answers again"

echo "== somebody else's lock is left alone"
fresh
echo 1 >"$server/count"
assert_refused 1 "it said that it failed" clawback backup v
grep -q "somebody else has locked MongoDB" "$work/refused.err"
wait_for 5 no_watcher
assert_equal 1 "$(count)" "locks, another's"

echo "== what somebody else has released is no point of the application"
fresh
hold
echo 0 >"$server/count"
release 1
assert_equal 0 "$(count)" "locks"

echo "== nobody holds for long"
sed 's/^hold_seconds=.*/hold_seconds=1/' "$hook" >"$work/short"
chmod 755 "$work/short"
fresh
hook=$work/short hold
wait_for 5 grep -q "failed: held for 1 s" "$work/said"
freed_soon "its time was over"
wait_for 5 no_watcher

echo "== no server, no mongosh"
fresh
rm "$server/up"
assert_refused 1 "it said that it failed" clawback backup v
grep -q "ECONNREFUSED" "$work/refused.err" || fail "what mongosh said is lost"
assert_refused 1 "it said that it failed" clawback backup v
grep -q "still being taken back" "$work/refused.err" || fail "two hooks at once"
kill -KILL $(watchers)

echo "== the agent is killed before the hook knows that it is locked"
for when in first then; do
	fresh
	echo 0.3 >"$server/slow"
	clawback_start backup v
	echo $clawback_pid >"$server/kill-$when"
	clawback_wait || true
	start=$(date +%s%N)
	asked() { grep -q ' lock 0' "$server/log"; }
	wait_for 5 asked
	rm "$server/kill-$when"
	wait_for 5 is_free
	echo "  $when: free $(since_ms "$start") ms after"
	wait_for 40 no_watcher
	assert_equal 0 "$(count)" "locks"
done
clawback_end
