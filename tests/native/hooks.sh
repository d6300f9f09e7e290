#!/bin/bash
# A hook holds while the point is taken, and no longer: ready before, released after,
# ended in time whatever it does, killed when the agent is; with nothing of the agent's
# secrets. What its failures do to the run, and what the point says of itself.
#
# timeout: 60
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
make_disk other 4M
said=$work/said

# hook NAME: a program of the shell's, from stdin, with a log of its own in which a line
# begins with the time.
hook() {
	{
		printf '#!/bin/bash\nsaid=%q\n' "$said"
		printf 'log() { echo "$(date +%%s%%N) $*" >>"$said"; }\n'
		cat
	} >"$work/$1"
	chmod 755 "$work/$1"
}

hook holds <<-'END'
	log begun "$@"
	tr '\0' '\n' <"/proc/$$/environ" | sed "s/^/environ /" >>"$said"
	ls -l /proc/$$/fd >"$0.fds"
	echo "some words on stdout"
	printf 'and \033[31mred\007 ones\n' >&2
	log ready
	echo ready
	read -r word result || log eof
	log "$word" "$result"
	read -r word && log more
	log over
	exit 0
END
hook early <<-'END'
	echo "cannot hold" >&2
	exit 7
END
hook says_failed <<-'END'
	echo "failed: no database"
	sleep 100
END
hook never <<-'END'
	trap 'log asked' TERM
	sleep 101 &
	log "child $!"
	while :; do wait; done
END
hook hangs <<-'END'
	echo ready
	read -r word
	sleep 102 &
	log "child $!"
	sleep 103
END
hook lost <<-'END'
	echo ready
	exit 0
END
hook complains <<-'END'
	echo ready
	read -r word result
	log "$word" "$result"
	exit 9
END
hook chatters <<-'END'
	yes "a word" | head -c 1000000 >&2
	printf '%0300000d\n' 1 >&2
	echo ready
	read -r word
	yes "a word" | head -c 1000000
END
hook kills <<-'END'
	exec 9<>"$0.lock"
	flock 9
	log "pid $$"
	echo ready
	kill -KILL $PPID
	# It ignores that its input ends; for ever only as far as this test goes.
	while [ $SECONDS -lt 10 ]; do :; done
END
clawback_volume v "$disk" "hook = $work/holds  one 't w o'" "hook_timeout = 2s"
clawback_volume w "$other" "group = g"
printf '\n[group g]\nhook = %s\nhook_failure = continue\n' "$work/holds" >>"$clawback_config"

at() { awk -v what="$1" '$2 == what { print $1; exit }' "$said"; }
told() { sed -n "s/^[0-9]* \($1.*\)/\1/p" "$said"; }
# Dead, even if whoever inherits it has not waited for it yet.
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }
# told_gone WORD: the process whose number it told behind WORD.
told_gone() {
	local pid
	pid=$(told "$1" | cut -d ' ' -f 2)
	[ -n "$pid" ] || fail "it told no $1: $(cat "$said")"
	wait_for 2 gone "$pid"
}
consistency() { clawback show "$1@latest" --json | jq -r .consistency; }
point_count() { clawback points v --json | jq '.points | length'; }
since_ms() { echo $((($(date +%s%N) - $1) / 1000000)); }
# use NAME [OPTION]...: for the runs that follow.
use() {
	hooked=(-o "volume v.hook=$work/$1" "${@:2}")
	: >"$said"
}
run() { clawback backup v "${hooked[@]}" --json >"$work/out" 2>"$work/err"; }

echo "== a dry run runs none"
clawback backup v --dry-run >/dev/null
[ ! -e "$said" ] || fail "$(cat "$said")"

echo "== it holds for the instant"
AWS_SECRET_ACCESS_KEY=very-secret HOME=/root LANG=C clawback backup v --json 3</dev/null \
	7<"$work/passphrase" >"$work/out" 2>"$work/err"
sed 's/^/  /' "$work/err"
instant=$(date -d "$(clawback show v@1 --json | jq -r .time)" +%s%N)
[ "$(at ready)" -lt "$instant" ] || fail "not ready before the instant $instant: $(cat "$said")"
[ "$instant" -lt "$(at release)" ] || fail "released before the instant $instant: $(cat "$said")"
echo "  ready $(((instant - $(at ready)) / 1000)) us before, released" \
	"$((($(at release) - instant) / 1000)) us after the instant"
assert_equal "begun one 't w o'" "$(told begun)" "its arguments"
assert_equal "release ok" "$(told release)" "what it was told"
assert_equal 1 "$(grep -c ' over$' "$said")" "times that it ended"
! grep -q ' more$' "$said" || fail "its input goes on"
assert_equal application "$(consistency v)" "the consistency"
grep -q "hook holds: some words on stdout" "$work/err"
grep -q "hook holds: and  \[31mred  ones" "$work/err"
! grep -q "hook holds: ready" "$work/err" || fail "what is for us was told"

echo "== what it is given"
assert_equal "CLAWBACK_DEVICES CLAWBACK_GROUP CLAWBACK_HOOK CLAWBACK_RUN CLAWBACK_VOLUMES PATH" \
	"$(sed -n 's/^environ //p' "$said" | cut -d = -f 1 | sort | xargs)" "its variables"
for line in CLAWBACK_HOOK=hold CLAWBACK_VOLUMES=v CLAWBACK_GROUP= "CLAWBACK_DEVICES=$disk"; do
	grep -qx "environ $line" "$said" || fail "no $line: $(cat "$said")"
done
grep -q '^environ CLAWBACK_RUN=[0-9a-f-]\{36\}$' "$said"
! grep -q very-secret "$said" || fail "a secret was handed on"
# 255 is where bash keeps its own script.
assert_equal "0 1 2" "$(awk 'NF > 8 && $9 != 255 { print $9 }' "$work/holds.fds" | sort -n | xargs)" \
	"its descriptors"
assert_equal 3 "$(grep -c 'pipe:' "$work/holds.fds")" "pipes among them: $(cat "$work/holds.fds")"

echo "== of a group"
: >"$said"
clawback backup g --json >"$work/out" 2>"$work/err"
grep -qx "environ CLAWBACK_GROUP=g" "$said"
grep -qx "environ CLAWBACK_VOLUMES=w" "$said"
assert_equal application "$(consistency w)" "the consistency"

echo "== of a run of the daemon's"
dd if=/dev/urandom of="$disk" bs=4K count=1 oflag=direct status=none
: >"$said"
sleep 1.2	# until it is due
clawback protect --once -o "volume v.rpo=1s" >"$work/out" 2>"$work/err"
grep -q "hook holds: some words" "$work/err"
assert_equal application "$(consistency v)" "the consistency"
assert_equal 2 "$(point_count)" "points"
assert_equal 1 "$(grep -c ' over$' "$said")" "times that it ended"

echo "== PostgreSQL's"
pg_start "$work/pg"
pg_sql "$work/pg" "create table t as select generate_series(1, 1000)"
checkpoints() { grep -c "checkpoint complete" "$work/pg/run/log" || true; }
had=$(checkpoints)
hooked=(-o "volume v.hook=$tree/scripts/hooks/postgresql-checkpoint --host=$work/pg/run")
run
assert_equal $((had + 1)) "$(checkpoints)" "checkpoints: $(cat "$work/pg/run/log")"
assert_equal application "$(consistency v)" "the consistency"
pg_stop "$work/pg" immediate
assert_refused 1 "it ended with code 2 before it was ready" clawback backup v "${hooked[@]}"
grep -q "hook postgresql-checkpoint: psql: error" "$work/refused.err"
assert_equal 3 "$(point_count)" "points"

echo "== it ends before it is ready"
use early
assert_refused 1 "hook $work/early: it ended with code 7 before it was ready" \
	clawback backup v "${hooked[@]}"
grep -q "hook early: cannot hold" "$work/refused.err"
use says_failed
assert_refused 1 "it said that it failed" clawback backup v "${hooked[@]}"
use not_there
assert_refused 1 "hook $work/not_there: No such file" clawback backup v "${hooked[@]}"
assert_equal 3 "$(point_count)" "points"
use early -o "volume v.hook_failure=continue"
run
grep -q "warning: hook $work/early: .*going on without it" "$work/err"
assert_equal unmounted "$(consistency v)" "the consistency"
assert_equal 4 "$(point_count)" "points"

echo "== it is not ready in time"
use never -o "volume v.hook_timeout=1s"
start=$(date +%s%N)
assert_refused 1 "it was not ready within 1 s" clawback backup v "${hooked[@]}"
took=$(since_ms "$start")
echo "  ended after $took ms"
[ "$took" -ge 1000 ] || fail "it was not given its second"
[ "$took" -lt 6000 ] || fail "it took $took ms"
grep -q " asked" "$said" || fail "it was not asked to end before it was killed"
told_gone child
assert_equal 4 "$(point_count)" "points"

echo "== it is gone before the instant"
use lost
assert_refused 1 "ended or failed before the point was taken\|ended with code 0 before it was ready" \
	clawback backup v "${hooked[@]}"
assert_equal 4 "$(point_count)" "points"
use lost -o "volume v.hook_failure=continue"
run
grep -q "warning: hook $work/lost: .*going on without it" "$work/err"
assert_equal unmounted "$(consistency v)" "the consistency"

echo "== it hangs after it was released"
use hangs -o "volume v.hook_timeout=1s"
run
grep -q "warning: hook .*did not end within 1 s" "$work/err"
assert_equal unmounted "$(consistency v)" "the consistency"
told_gone child

echo "== it takes back what it said"
use complains
run
grep -q "warning: hook .*failed after it was released: code 9" "$work/err"
assert_equal unmounted "$(consistency v)" "the consistency"

echo "== it talks a lot"
use chatters
run
assert_equal application "$(consistency v)" "the consistency"
[ "$(grep -c "hook chatters" "$work/err")" -le 201 ] || fail "$(wc -l <"$work/err") lines were told"
grep -q "more lines left out" "$work/err"

echo "== a boundary that fails releases it"
mkfs.ext4 -q -F "$disk"
mount_volume "$disk" "$work/mounted"
use complains
assert_refused 1 "mounted" clawback backup v "${hooked[@]}"
unmount_volume "$work/mounted"
assert_equal "release failed" "$(told release)" "what it was told"

echo "== interrupted while it is not ready"
use never
clawback_start backup v "${hooked[@]}" -o "volume v.hook_timeout=60s"
wait_for 5 grep -q child "$said"
kill -INT "$clawback_pid"
code=0
clawback_wait || code=$?
assert_equal 130 $code "exit code"
told_gone child

echo "== the agent is killed while it holds"
use kills
code=0
run || code=$?
assert_equal 137 $code "exit code"
start=$(date +%s%N)
until flock -n "$work/kills.lock" true; do
	[ "$(since_ms "$start")" -lt 2000 ] || fail "it still holds its lock"
	sleep 0.02
done
told_gone pid
echo "  it was gone $(since_ms "$start") ms after the agent"
use holds
run
assert_equal application "$(consistency v)" "the consistency"
clawback verify >/dev/null
clawback_end
