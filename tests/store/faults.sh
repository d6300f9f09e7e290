#!/bin/bash
# The whole program in front of a server in trouble: a backup succeeds by trying
# again, or fails with its own message and exit code and keeps its marks; the next
# one carries them, and what it restores is the volume.
#
# timeout: 300
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
export no_proxy='*' NO_PROXY='*'
RANDOM=$((CLAWBACK_SEED % 32768))
code=0
RGW_LIFE_SECONDS=290 tests/store/rgw start "$work/rgw" || code=$?
[ $code != 77 ] || skip "the S3 server's packages are not installed"
[ $code = 0 ] || fail "the S3 server did not start"
defer tests/store/rgw stop "$work/rgw"
# shellcheck source=/dev/null
. "$work/rgw/env"
RGW_LIFE_SECONDS=290 tests/store/faulty "${RGW_HTTP##*:}" "$work/ports" &
defer clawback_stop $!
wait_for 20 test -s "$work/ports"
read -r proxy control <"$work/ports"

# tell LINE: to the stub, which answers with the number of requests since the last plan.
tell() {
	exec 3<>"/dev/tcp/127.0.0.1/$control"
	echo "$*" >&3
	read -r requests <&3
	exec 3>&-
}
# plan FAULT...: see tests/store/faulty; what is not planned goes well.
plan() { tell plan "$@"; }
# always FAULT: this, whatever is tried.
always() {
	local faults
	printf -v faults "$1 %.0s" {1..200}
	plan "$faults"
}

make_disk disk 24M
clawback_begin "$work/unused" open
clawback_volume v "$disk"
s3=(--repository "s3://$RGW_BUCKET/faults" -o "repository.endpoint=http://127.0.0.1:$proxy"
	-o "repository.credentials_file=$RGW_CREDENTIALS" -o repository.path_style=yes
	--state "$work/s3-state")
# Short, so that giving up is soon: a second of silence, one more attempt.
impatient=(-o repository.timeout=1 -o repository.retries=1)
detach_all() { [ ! -d /sys/fs/bpf/clawback ] || clawback detach --all "${s3[@]}" >/dev/null; }
defer detach_all
clawback init "${s3[@]}" >/dev/null
fill "$disk" 2
backup v "${s3[@]}"

at=0
change() {
	at=$(((at + 1) % 20))
	head -c $((RANDOM % 300000 / 512 * 512 + 512)) </dev/urandom |
		dd of="$disk" bs=1M seek=$at oflag=seek_bytes conv=notrunc,fsync status=none
	fill "$disk" 1 $at
}
assert_restored() {
	plan
	clawback restore v --to "$work/restored" --force "${s3[@]}" "${clawback_key[@]}" >/dev/null
	assert_same "$work/restored" "$disk" $((24 << 20))
}
head_point() { clawback status v "${s3[@]}" --json | jq '.volumes[0].point'; }

echo "== survived by trying again"
patient=(-o repository.timeout=1 -o repository.retries=4)
for fault in 500 503:1:SlowDown 429 reset lost GET:cut close PUT:flip slow:2 GET:stall:2 \
	408:RequestTimeout 409:OperationAborted; do
	change
	# Where in the run is left to chance; twice, with luck in between.
	faults=()
	for ((i = RANDOM % 4; i > 0; i--)); do faults+=(ok); done
	plan "${faults[*]}" "$fault" ok "$fault"
	backup v "${s3[@]}" "${patient[@]}" || fail "a backup did not survive $fault"
	assert_kind incremental
done
assert_restored
clawback verify "${s3[@]}" >/dev/null

# gives_up NAME CODE PATTERN [OPTION]...: under what was planned, the run fails so;
# afterwards it is as if it had never been, but for the marks.
gives_up() {
	local name=$1 code=$2 pattern=$3 before
	shift 3
	before=$(head_point)
	assert_refused "$code" "$pattern" clawback backup v "${s3[@]}" "${impatient[@]}" "$@"
	[ ! -s "$work/refused.out" ] || fail "$name: printed $(cat "$work/refused.out")"
	assert_equal 1 "$(wc -l <"$work/refused.err")" "$name: lines said"
	! grep -q -F -e "$RGW_SECRET_KEY" "$work/refused.err" || fail "$name: the secret was printed"
	plan
	assert_equal "$before" "$(head_point)" "$name: the last point"
}
is_kept() { clawback status v "${s3[@]}" --json | jq -e '.volumes[0].pending' >/dev/null; }
recovers() {
	backup v "${s3[@]}"
	assert_kind incremental
	! is_kept || fail "marks are still pending after a run that worked"
}

echo "== given up, each with its own words"
while read -r fault code pattern; do
	# After the boundary, when the marks have left the tracker.
	change
	always "PUT:$fault"
	gives_up "$fault while storing" "$code" "$pattern"
	is_kept || fail "$fault: the marks were not kept"
	# And from the first request on.
	change
	always "$fault"
	gives_up "$fault from the start" "$code" "$pattern"
	sleep "$(case $fault in slow:*) echo "${fault#slow:}" ;; *) echo 0 ;; esac)"
	recovers
done <<-END
	500 1 answered.500.*2.tries
	503:0:SlowDown 1 asks.for.fewer.requests
	reset 1 [Rr]eset\|[Ee]mpty.reply
	slow:3 1 nothing.came.or.went.for.1.s
	403:AccessDenied 1 access.key.and.the.secret
	403:RequestTimeTooSkewed 1 set.the.clock
	404:NoSuchBucket 10 create.the.bucket
	507 1 free.space
	301:PermanentRedirect 1 region.and.the.endpoint
	html 1 no.object.store
END
assert_restored

echo "== for real"
change
(umask 077; sed 's/^\(aws_secret_access_key *= *\).*/\1wrong/' "$RGW_CREDENTIALS" >"$work/wrong")
gives_up "a wrong secret" 1 "secret" -o "repository.credentials_file=$work/wrong"
(umask 077; sed 's/^\(aws_access_key_id *= *\).*/\1NOBODY/' "$RGW_CREDENTIALS" >"$work/wrong")
gives_up "an unknown key" 1 "check the access key" \
	-o "repository.credentials_file=$work/wrong"
gives_up "no bucket" 10 "create the bucket" -o repository.url=s3://no-such-bucket/faults
gives_up "no repository" 10 "clawback init" -o "repository.url=s3://$RGW_BUCKET/elsewhere"
gives_up "nobody there" 1 "check the endpoint and the network" \
	-o repository.endpoint=http://127.0.0.1:9
cat >"$work/late.c" <<'END'
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
time_t time(time_t *out)
{
	struct timespec now;
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec - 7200;
	return now.tv_sec - 7200;
}
END
if cc -shared -fPIC -o "$work/late.so" "$work/late.c" 2>/dev/null; then
	LD_PRELOAD=$work/late.so gives_up "a clock two hours late" 1 "set the clock"
fi
recovers

echo "== a point whose storing was only thought to have failed"
change
printf -v losses 'PUT:lost %.0s' {1..9}
plan PUT:ok "$losses"	# the segment arrives and is acknowledged, the point only arrives
before=$(head_point)
gives_up "an answer that never comes" 1 "[Rr]eset\|[Ee]mpty reply"
change
clawback backup v "${s3[@]}" --json >"$work/backup.json" 2>"$work/backup.err"
grep -q "did not live to say so" "$work/backup.err" || fail "not adopted: $(cat "$work/backup.err")"
assert_kind incremental
assert_equal $((before + 2)) "$(head_point)" "the last point"
assert_restored

echo "== a large upload"
fill "$disk" 16 3
always POST:500
gives_up "no upload begun" 1 "answered 500"
plan PUT:ok PUT:500 PUT:500 PUT:500 PUT:500 PUT:500 PUT:500
gives_up "parts refused" 1 "answered 500"
# Killed with parts on the server: the next run takes them away.
always PUT:slow:5
clawback_start backup v "${s3[@]}" -o repository.part_size=5M
wait_for 20 is_kept
sleep 1
kill -KILL "$clawback_pid"
wait "$clawback_pid" 2>/dev/null || true
plan
clawback backup v "${s3[@]}" --json >"$work/backup.json" 2>"$work/backup.err"
grep -q "removed 1 unfinished uploads" "$work/backup.err" ||
	fail "no unfinished upload was removed: $(cat "$work/backup.err")"
assert_kind incremental

echo "== restoring from a server in trouble"
for fault in GET:500 GET:reset GET:cut GET:stall:2; do
	plan ok "$fault" ok ok "$fault"
	clawback restore v --to "$work/restored" --force "${s3[@]}" "${patient[@]}" \
		"${clawback_key[@]}" >/dev/null || fail "a restore did not survive $fault"
	assert_same "$work/restored" "$disk" $((24 << 20))
done
# Given up at the last piece of the data: that is worth repeating.
assert_restored
tell count
faults=()
for ((i = 1; i < requests; i++)); do faults+=(ok); done
plan "${faults[*]}" 500 500
assert_refused 1 "answered 500.*partial restore: run it again" clawback restore v \
	--to "$work/restored" --force "${s3[@]}" "${impatient[@]}" "${clawback_key[@]}"
plan
clawback verify --data "${s3[@]}" "${clawback_key[@]}"
detach_all
