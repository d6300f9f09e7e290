#!/bin/bash
# A volume of 3 GiB in a real S3 server: a database on it accepts connections long before a
# restore would have ended, with a small part of it fetched, over a long line, too; it works
# while all is filled in beneath it; in the end it has what the point had and what was
# written since. Independent clients read the very volume; a damaged object is an error for
# its range and a line in the log. Says how long, how much and how fast.
#
# full-only: yes
# timeout: 1800
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
for program in nbdkit nbdfuse nbdcopy nbdinfo qemu-img; do
	command -v $program >/dev/null || skip "no $program: run scripts/bootstrap"
done
[ -c /dev/fuse ] || skip "no /dev/fuse"
code=0
RGW_LIFE_SECONDS=1780 tests/store/rgw start "$work/rgw" || code=$?
[ $code != 77 ] || skip "the S3 server's packages are not installed"
[ $code = 0 ] || fail "the S3 server did not start"
defer tests/store/rgw stop "$work/rgw"
# shellcheck source=/dev/null
. "$work/rgw/env"
cp "$RGW_CA" "$work/ca.pem"
cp -p "$RGW_CREDENTIALS" "$work/credentials"

# 100 is 1.5 GiB of tables and indexes; as much again is room for the log.
scale=${CLAWBACK_SERVE_SCALE:-100}
size_mib=${CLAWBACK_SERVE_MIB:-3072}
rtt_ms=${CLAWBACK_RTT_MS:-20}
socket=$work/nbd.sock
uri="nbd+unix:///?socket=$socket"
ms() { echo $(($(date +%s%N) / 1000000)); }
history="SELECT count(*), sum(delta) FROM pgbench_history"
bench() { as_postgres "$pg_bin/pgbench" -n -c 4 -h "$work/mnt/run" "$@" postgres; }

# ---- serving -------------------------------------------------------------------------
serve_said() { grep -sq "\"message_type\":\"$1\"" "$work/background.out" || ! kill -0 $clawback_pid; }
serve_start() {
	rm -f "$work/background.out"
	clawback_start serve v --socket "$socket" "${clawback_key[@]}" --json "$@"
	wait_for 60 serve_said ready
	kill -0 $clawback_pid || fail "not served: $(cat "$work/background.err")"
}
serve_stop() {
	kill -TERM $clawback_pid
	clawback_wait || fail "serve ended with $?: $(cat "$work/background.err")"
}
# said FIELD: as of the last line
said() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$work/background.out" | tail -n 1; }

# disk_start, disk_stop: what is served as $loop, mounted
disk_end() {
	! mountpoint -q "$work/mnt" || umount "$work/mnt"
	! losetup "$1" >/dev/null 2>&1 || losetup -d "$1"
	! mountpoint -q "$work/fuse" || umount -l "$work/fuse"
}
fuse_start() {
	mkdir -p "$work/fuse"
	rm -f "$work/fuse.pid"
	nbdfuse -P "$work/fuse.pid" "$work/fuse/volume" --unix "$socket" &
	fuse_pid=$!
	defer clawback_stop $fuse_pid
	wait_for 20 test -s "$work/fuse.pid"
}
disk_start() {
	fuse_start
	loop=$(losetup --find --show "$work/fuse/volume")
	written_before=$(write_sectors "$loop")	# it counts on from its last use
	defer disk_end "$loop"
	mount_volume "$loop" "$work/mnt"
}
disk_stop() {
	unmount_volume "$work/mnt"
	losetup -d "$loop"
	umount "$work/fuse"
	wait $fuse_pid
}

# database_start WHAT [OPTION]...: from serve to the first answer.
database_start() {
	local what=$1 start
	shift
	start=$(ms)
	serve_start "$@"
	served_ms=$(($(ms) - start))
	disk_start
	mounted_ms=$(($(ms) - start))
	pg_start "$work/mnt"
	pg_sql "$work/mnt" "SELECT 1" >/dev/null
	up_ms=$(($(ms) - start))
	sleep 1.2
	echo "  $what: served after $served_ms ms, mounted after $mounted_ms ms, connections" \
		"after $up_ms ms; $(said fetches) requests and $(said fetched_bytes) bytes by then"
}

# ---- a database, crashed --------------------------------------------------------------
make_disk disk ${size_mib}M
mkfs.ext4 -q -m 0 "$disk"
clawback_begin "$work/unused" open
sed -i "s|^url = .*|url = s3://$RGW_BUCKET/serve\nendpoint = $RGW_HTTPS\nca_file = $work/ca.pem\ncredentials_file = $work/credentials\npath_style = yes|" \
	"$clawback_config"
rm -rf "$work/state"
clawback init >/dev/null
clawback_volume v "$disk"
mount_volume "$disk" "$work/mnt"
pg_start "$work/mnt"
as_postgres "$pg_bin/pgbench" -q -i -s "$scale" -h "$work/mnt/run" postgres \
	>"$work/pgbench.init" 2>&1 || fail "pgbench -i: $(tail -n 3 "$work/pgbench.init")"
pg_sql "$work/mnt" checkpoint
bench -t 1000 >/dev/null 2>&1
wanted=$(pg_sql "$work/mnt" "$history")
pg_stop "$work/mnt" immediate
unmount_volume "$work/mnt"
backup v
stored=$(summary point.stored_bytes)
start=$(ms)
clawback restore v --to "$work/restored" "${clawback_key[@]}" >"$work/restore.out"
echo "  a restore takes $(($(ms) - start)) ms; $(du -m "$work/restored" | cut -f 1) MiB of data"
bytes=$((size_mib << 20))

echo "== connections long before a restore has ended"
database_start "no line" --overlay "$work/volume"
[ "$(said fetched_bytes)" -lt $((stored / 2)) ] || fail "half of it was fetched"
assert_equal "$wanted" "$(pg_sql "$work/mnt" "$history")" "what was committed"
pg_stop "$work/mnt"
disk_stop
serve_stop
rm "$work/volume" "$work/volume.present"

tests/store/delay "${RGW_HTTPS##*:}" "$rtt_ms" >"$work/delay" &
delay_pid=$!
defer clawback_stop $delay_pid
wait_for 60 test -s "$work/delay"
database_start "$rtt_ms ms a round trip" --overlay "$work/volume" \
	-o repository.endpoint="https://127.0.0.1:$(cat "$work/delay")"
[ "$(said fetched_bytes)" -lt $((stored / 2)) ] || fail "half of it was fetched"
assert_equal "$wanted" "$(pg_sql "$work/mnt" "$history")" "what was committed"
pg_stop "$work/mnt"
disk_stop
serve_stop
rm "$work/volume" "$work/volume.present"

echo "== filled in beneath a database that works"
database_start "filled meanwhile" --overlay "$work/volume" --fill --fill-rate $((stored / 120))
"$pg_bin/pgbench" -n -c 4 -T 1000 -P 1 -U postgres -h "$work/mnt/run" postgres \
	>"$work/pgbench" 2>&1 &
bench_pid=$!
defer clawback_stop $bench_pid
wait_for 300 serve_said complete
kill -0 $clawback_pid || fail "serve ended: $(cat "$work/background.err")"
beneath=$(grep -c '^progress' "$work/pgbench" || true)
sleep 15
kill -0 $bench_pid || fail "pgbench ended early: $(cat "$work/pgbench")"
kill -TERM $bench_pid
wait $bench_pid 2>/dev/null || true
[ "$beneath" -ge 5 ] || fail "the fill ended too soon to say anything"
awk -v until="$beneath" '/^progress/ { after = ++i > until; n[after]++; sum[after] += $4 }
	END { printf "  pgbench: %.0f transactions a second above the fill, in %d s, and %.0f after it\n",
	      sum[0] / n[0], until, sum[1] / n[1] }' "$work/pgbench"
! grep -i "error\|abort" "$work/pgbench" || fail "pgbench had errors"
after=$(pg_sql "$work/mnt" "$history")
[ "${after%%|*}" -gt $((${wanted%%|*} + 10)) ] || fail "it hardly worked: $wanted, then $after"
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
written=$(($(write_sectors "$loop") - written_before))
disk_stop
serve_stop
[ ! -e "$work/volume.present" ] || fail "it is not called complete"

echo "== the overlay alone is the point and what was written"
differ=$({ cmp -l "$work/volume" "$work/restored" || true; } |
	awk '!seen[int(($1 - 1) / 4096)]++ { n++ } END { print n + 0 }')
echo "  $differ blocks differ from the point; $((written / 8)) were written"
[ "$differ" -le $((written / 8)) ] || fail "more differs than was written"
e2fsck -fn "$work/volume" >"$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
loop=$(losetup --find --show "$work/volume")
defer disk_end "$loop"
mount_volume "$loop" "$work/mnt"
pg_start "$work/mnt"
assert_equal "$after" "$(pg_sql "$work/mnt" "$history")" "what was committed"
pg_sql "$work/mnt" "CREATE EXTENSION amcheck"
"$pg_bin/pg_amcheck" -U postgres -h "$work/mnt/run" --heapallindexed postgres
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
losetup -d "$loop"
rm "$work/volume"

echo "== filled in with nothing else going on"
start=$(ms)
serve_start --overlay "$work/volume" --fill --until-filled
clawback_wait || fail "filling ended with $?: $(cat "$work/background.err")"
echo "  in $(($(ms) - start)) ms, with $(said fetches) requests"
assert_same "$work/volume" "$work/restored" "$bytes"
rm "$work/volume"

echo "== the very volume, to independent clients"
serve_start
assert_equal "$bytes" "$(nbdinfo --size "$uri")" "its size"
nbdcopy --connections=4 "$uri" "$work/copied"
assert_same "$work/copied" "$work/restored" "$bytes"
qemu-img compare -f raw -F raw "$uri" "$work/restored"
rm "$work/copied"
serve_stop

echo "== a damaged object"
s3() { # METHOD KEY [OPTION]...
	curl -sS --fail --max-time 60 --noproxy '*' -X "$1" "${@:3}" \
		--user "$RGW_ACCESS_KEY:$RGW_SECRET_KEY" --aws-sigv4 "aws:amz:us-east-1:s3" \
		-H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$RGW_HTTP/$RGW_BUCKET$2"
}
victim=$(s3 GET "?prefix=serve%2F" | grep -o '<Key>[^<]*segments[^<]*</Key>' |
	sed 's/<[^>]*>//g' | tail -n 1)
[ -n "$victim" ] || fail "there is no segment to damage"
s3 GET "/$victim" -o "$work/object"
python3 - "$work/object" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    at = f.seek(0, 2) // 2
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 255]))
PY
s3 PUT "/$victim" -T "$work/object" >/dev/null
cat >"$work/compare.py" <<'PY'
import os, sys
served, good = (os.open(path, os.O_RDONLY) for path in sys.argv[1:])
size, bad, at = os.fstat(good).st_size, [], 0
def check(at, length):
    read = os.pread(served, length, at)
    if read != os.pread(good, len(read), at):
        sys.exit("wrong data in %d bytes at %d" % (len(read), at))
    if len(read) < length:	# up to what is damaged
        raise OSError
while at < size:
    try:
        at = os.lseek(good, at, os.SEEK_DATA) // 4096 * 4096
    except OSError:
        break
    length = min(1 << 20, size - at)
    try:
        check(at, length)
    except OSError:
        for block in range(at, at + length, 4096):
            try:
                check(block, min(4096, size - block))
            except OSError:
                bad.append(block // 4096)
    at += length
print("  %d blocks are errors, all others right" % len(bad))
if not 0 < len(bad) <= 256:
    sys.exit("%d blocks are errors" % len(bad))
PY
serve_start
fuse_start
defer disk_end /dev/null
python3 "$work/compare.py" "$work/fuse/volume" "$work/restored" || fail "see above"
umount "$work/fuse"
wait $fuse_pid
grep -q "object ${victim#serve/}" "$work/background.err" ||
	fail "the object is not named: $(cat "$work/background.err")"
grep -m 1 "object ${victim#serve/}" "$work/background.err" | sed 's/^/  /'
serve_stop
clawback_end
