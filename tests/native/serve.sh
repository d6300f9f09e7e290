#!/bin/bash
# A point served over NBD is the very volume, to several clients; what is damaged is an error
# there alone. PostgreSQL runs on it seconds after it was asked for, while the volume is
# filled in beneath it; killed at any moment, that goes on; in the end the overlay alone is
# the point and what was written since. Files can be looked into, images exported, and
# nothing is left.
#
# timeout: 400
# full-timeout: 900
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
for program in nbdkit nbdfuse nbdcopy nbdinfo qemu-img qemu-io; do
	command -v $program >/dev/null || skip "no $program: run scripts/bootstrap"
done
[ -c /dev/fuse ] || skip "no /dev/fuse"
is_full && scale=40 rounds=25 random_mib=160 || scale=3 rounds=4 random_mib=40
size_mib=$((128 + 20 * scale + random_mib))
ms() { echo $(($(date +%s%N) / 1000000)); }
no_nbdkit() { ! kill -0 "$1" 2>/dev/null || grep -q "^State:.*Z" "/proc/$1/status"; }

# ---- serving -----------------------------------------------------------------------
socket=$work/nbd.sock
uri="nbd+unix:///?socket=$socket"

# serve_start VOLUME@POINT [OPTION]...
serve_said() { grep -sq "\"message_type\":\"$1\"" "$work/background.out" || ! kill -0 $clawback_pid; }
serve_was() { grep -sq "\"message_type\":\"$1\"" "$work/background.out"; }
serve_start() {
	rm -f "$work/background.out"
	clawback_start serve "$@" --socket "$socket" "${clawback_key[@]}" --json
	wait_for 60 serve_said ready
	kill -0 $clawback_pid || fail "not served: $(cat "$work/background.err")"
}
serve_stop() {
	kill -TERM $clawback_pid
	clawback_wait || fail "serve ended with $?: $(cat "$work/background.err")"
	[ ! -e "$socket" ] || fail "the socket is left"
}
# As of the last status.
fetched() { sed -n 's/.*"fetched_bytes":\([0-9]*\).*/\1/p' "$work/background.out" | tail -n 1; }

# fuse_start, fuse_stop: what is served as $work/fuse/volume
fuse_start() {
	mkdir -p "$work/fuse"
	nbdfuse -P "$work/fuse.pid" "$work/fuse/volume" --unix "$socket" 2>"$work/fuse.err" &
	fuse_pid=$!
	defer clawback_stop $fuse_pid
	defer fuse_release
	wait_for 20 test -s "$work/fuse.pid"
}
fuse_release() { ! mountpoint -q "$work/fuse" || umount -l "$work/fuse"; }
fuse_stop() {
	umount "$work/fuse"
	wait $fuse_pid || fail "nbdfuse: $(cat "$work/fuse.err")"
	rm -f "$work/fuse.pid"
}

# ---- a database, crashed -------------------------------------------------------------
make_disk disk ${size_mib}M
mkfs.ext4 -q -F -O ^metadata_csum "$disk"
clawback_begin "$work/repository" open
clawback_volume v "$disk"
mount_volume "$disk" "$work/mnt"
fill_file "$work/mnt/random" $random_mib
pg_start "$work/mnt"
as_postgres "$pg_bin/pgbench" -q -i -s $scale -h "$work/mnt/run" postgres 2>/dev/null
pg_sql "$work/mnt" checkpoint
pg_stop "$work/mnt" fast
unmount_volume "$work/mnt"
backup v
mount_volume "$disk" "$work/mnt"
pg_start "$work/mnt"
as_postgres "$pg_bin/pgbench" -n -t 300 -c 2 -h "$work/mnt/run" postgres >/dev/null 2>&1
before=$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")
pg_stop "$work/mnt" immediate
unmount_volume "$work/mnt"
backup v
clawback restore v --to "$work/restored" "${clawback_key[@]}" >/dev/null
bytes=$((size_mib << 20))
stored=$(du -bs "$work/repository" | cut -f 1)

echo "== the very volume, to independent clients"
serve_start v@2
nbdinfo --size "$uri" | grep -qx $bytes || fail "its size: $(nbdinfo --size "$uri")"
nbdinfo --is readonly "$uri" || fail "it can be written to"
nbdcopy --connections=4 "$uri" "$work/copied"
assert_same "$work/copied" "$work/restored" $bytes
# qemu skips what both call holes, and reads zeros for what one does.
qemu-img compare -f raw -F raw "$uri" "$work/restored"
rm "$work/copied"
serve_stop
jq -e 'select(.message_type == "summary") | .fetched_bytes > 0 and .read_only' \
	"$work/background.out" >/dev/null || fail "$(cat "$work/background.out")"
# The key is in no argument and no environment, nor is anything to be read by others.
rm -f "$work/background.out"
clawback_start serve v@2 --port 0 "${clawback_key[@]}" --json
wait_for 60 serve_said ready
plugin=$(pgrep -P $clawback_pid nbdkit)
# What we have ourselves, whatever it is called, is not of its making.
! tr '\0' '\n' <"/proc/$plugin/environ" | sort | comm -13 <(env | sort) - |
	grep -i "key\|pass" || fail "environment"
others=$(ss -ltnpH | grep "pid=$plugin," | grep -v ' 127\.0\.0\.1:') || true
assert_equal "" "$others" "sockets open to others"
nbdinfo --size "$(jq -r 'select(.message_type == "ready") | .uri' "$work/background.out")" >/dev/null
kill -TERM $clawback_pid
clawback_wait

echo "== damage is an error there alone"
cp -a "$work/repository" "$work/damaged"
victim=$(find "$work/damaged" -path '*segments*' -size +1M | head -n 1)
printf '\377' | dd of="$victim" bs=1 seek=$(($(stat -c %s "$victim") / 2)) conv=notrunc status=none
serve_start v@2 --repository "file://$work/damaged"
fuse_start
cat >"$work/compare.py" <<'END'
import sys
served, good = (open(path, "rb", buffering=0) for path in sys.argv[1:])
bad, right, at = [], 0, 0
while want := good.read(4096):
    served.seek(at)
    try:
        if served.read(4096) != want:
            sys.exit("wrong data at %d" % at)
        right += 1
    except OSError:
        bad.append(at // 4096)
    at += 4096
print(len(bad), right)
if not 0 < len(bad) <= 256:
    sys.exit("%d blocks are errors" % len(bad))
END
python3 "$work/compare.py" "$work/fuse/volume" "$work/restored" || fail "see above"
fuse_stop
grep -q "object ${victim#"$work/damaged/"}" "$work/background.err" ||
	fail "the object is not named: $(cat "$work/background.err")"
serve_stop
rm -r "$work/damaged"

echo "== a database on it, filled in beneath"
data_bytes=$(du -k --block-size=1 "$work/restored" | cut -f 1)
start=$(ms)
serve_start v@2 --overlay "$work/volume"
fuse_start
loop=$(losetup --find --show "$work/fuse/volume")
defer losetup_end "$loop"
losetup_end() { ! losetup "$1" >/dev/null 2>&1 || losetup -d "$1"; }
mount_volume "$loop" "$work/mnt"
pg_start "$work/mnt"
echo "  accepts connections $(($(ms) - start)) ms after serve was asked for"
sleep 1.2
early=$(fetched)
echo "  $early bytes were fetched by then, of $data_bytes of data"
[ "$early" -lt $((data_bytes * 2 / 3)) ] || fail "nearly all was fetched"
assert_equal "$before" "$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")" \
	"what was committed"
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
losetup -d "$loop"
fuse_stop
serve_stop
# Again, filled in while it works: what was written is still there.
serve_start v@2 --overlay "$work/volume" --fill --fill-rate $((stored / 20))
fuse_start
loop=$(losetup --find --show "$work/fuse/volume")
defer losetup_end "$loop"
mount_volume "$loop" "$work/mnt"
pg_start "$work/mnt"
"$pg_bin/pgbench" -n -T 120 -c 2 -R 50 -U postgres -h "$work/mnt/run" postgres >"$work/pgbench" 2>&1 &
bench=$!
defer clawback_stop $bench
wait_for 100 serve_said complete
kill -0 $bench || fail "pgbench ended early: $(cat "$work/pgbench")"
kill -TERM $bench
wait $bench 2>/dev/null || true
after=$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")
echo "  $((${after%%|*} - ${before%%|*})) transactions meanwhile"
[ "${after%%|*}" -gt $((${before%%|*} + 10)) ] || fail "it hardly worked: $before, then $after"
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
written=$(write_sectors "$loop")
losetup -d "$loop"
fuse_stop
serve_stop
[ ! -e "$work/volume.present" ] || fail "it is not called complete"

echo "== the overlay alone is the volume"
mv "$work/repository" "$work/away"
e2fsck -fn "$work/volume" >"$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
loop=$(losetup --find --show "$work/volume")
defer losetup_end "$loop"
mount_volume "$loop" "$work/mnt"
pg_start "$work/mnt"
assert_equal "$after" "$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")" \
	"what was committed"
pg_sql "$work/mnt" "CREATE EXTENSION amcheck"
"$pg_bin/pg_amcheck" -U postgres -h "$work/mnt/run" --heapallindexed postgres
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
losetup -d "$loop"
mv "$work/away" "$work/repository"
# What differs from the point is no more than was written to it.
differ=$({ cmp -l "$work/volume" "$work/restored" || true; } |
	awk '!seen[int(($1 - 1) / 4096)]++ { n++ } END { print n + 0 }')
[ "$differ" -le $((written / 8)) ] || fail "$differ blocks differ, $((written / 8)) were written"
echo "  $differ blocks differ from the point; $((written / 8)) were written"
rm "$work/volume"

echo "== killed while it is filled, $rounds times"
cp "$work/restored" "$work/model"
for ((round = 1; round <= rounds; round++)); do
	serve_start v@2 --overlay "$work/volume" --fill --fill-rate 4M
	# Flushed, so it must be there for ever.
	at=$((RANDOM % (size_mib * 16)))k
	pattern=$((RANDOM % 256))
	qemu-io -f raw -c "write -P $pattern ${at%k}0k 3000" -c flush "$uri" >/dev/null
	qemu-io -f raw -c "write -P $pattern ${at%k}0k 3000" "$work/model" >/dev/null
	sleep 0.$((RANDOM % 90 + 10))
	victims=($clawback_pid "$(pgrep -P $clawback_pid nbdkit)")
	kill -KILL "${victims[RANDOM % 2]}"
	clawback_wait && fail "killed, and well" || true
	wait_for 10 no_nbdkit "${victims[1]}"
	[ $round != 1 ] || ! serve_was complete || fail "it was complete before it was killed"
done
serve_start v@2 --overlay "$work/volume" --fill --until-filled
clawback_wait || fail "filling ended with $?: $(cat "$work/background.err")"
assert_same "$work/volume" "$work/model" $bytes
[ ! -e "$work/volume.present" ] || fail "it is not called complete"
rm "$work/volume" "$work/model"

echo "== on a device"
make_disk other ${size_mib}M
printf x | dd of="$other" bs=1 seek=5000 conv=notrunc status=none
assert_refused 2 "say with --present" clawback serve v --overlay "$other" "${clawback_key[@]}"
assert_refused 1 "has something on it" clawback serve v --overlay "$other" \
	--present "$work/other.present" --socket "$socket" "${clawback_key[@]}"
serve_start v@2 --overlay "$other" --present "$work/other.present" --force --fill --until-filled
clawback_wait || fail "$(cat "$work/background.err")"
assert_same "$other" "$work/restored" $bytes

echo "== refused"
assert_refused 12 "passphrase\|recovery" clawback serve v --socket "$socket"
assert_refused 2 "not both" clawback serve v --socket "$socket" --port 1 "${clawback_key[@]}"
echo data >"$work/mine"
assert_refused 1 "not empty" clawback serve v --overlay "$work/mine" --socket "$socket" "${clawback_key[@]}"
assert_equal data "$(cat "$work/mine")" "a file that was there"
touch "$socket"
assert_refused 1 "in use" clawback serve v --socket "$socket" "${clawback_key[@]}"
rm "$socket"

echo "== looked into"
mkdir "$work/look"
look_release() { ! mountpoint -q "$work/look" || clawback umount "$work/look"; }
defer look_release
clawback mount v@2 "$work/look" "${clawback_key[@]}"
test -s "$work/look/data/PG_VERSION" || fail "no file is there"
mount_volume "$disk" "$work/mnt"
diff -r --no-dereference "$work/mnt/data" "$work/look/data" >"$work/differences" 2>&1 ||
	fail "$(head "$work/differences")"
unmount_volume "$work/mnt"
assert_refused 1 "already" clawback mount v@2 "$work/look" "${clawback_key[@]}"
(cd "$work/look" && assert_refused 1 "busy" clawback umount "$work/look")
clawback umount "$work/look"
clawback mount v@1 "$work/look" "${clawback_key[@]}"
kill -KILL "$(pgrep -f "clawback mount --config $clawback_config v.1 ")"
clawback mount v@2 "$work/look" "${clawback_key[@]}"
test -s "$work/look/data/PG_VERSION" || fail "no file is there"
kill -KILL "$(pgrep -f "clawback mount --config $clawback_config v.2 ")"
clawback umount "$work/look"
! mountpoint -q "$work/look" || fail "still mounted"
assert_refused 1 "no clawback mount" clawback umount "$work/look"

echo "== exported"
clawback export v@2 --to "$work/image.qcow2" "${clawback_key[@]}"
qemu-img check -q "$work/image.qcow2"
qemu-img compare -F raw "$work/image.qcow2" "$work/restored"
clawback export v@2 --to "$work/image.raw" --format raw "${clawback_key[@]}" >/dev/null
assert_same "$work/image.raw" "$work/restored" $bytes
[ "$(du -k "$work/image.raw" | cut -f 1)" -le $((data_bytes / 1024 + 4096)) ] || fail "not sparse"
assert_refused 1 "give --force" clawback export v@2 --to "$work/image.raw" "${clawback_key[@]}"
clawback_end
