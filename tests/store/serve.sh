#!/bin/bash
# A database of some 3 GiB in a real S3 server accepts connections long before a restore would
# have ended, with a small part of it fetched; says how long and how much.
#
# full-only: yes
# timeout: 1800
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
for program in nbdkit nbdfuse; do
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

# pgbench's scale: 200 is 3 GiB.
scale=${CLAWBACK_SERVE_SCALE:-200}
make_disk disk $((300 + 18 * scale))M
mkfs.ext4 -q "$disk"
clawback_begin "$work/unused" open
sed -i "s|^url = .*|url = s3://$RGW_BUCKET/serve\nendpoint = $RGW_HTTPS\nca_file = $work/ca.pem\n&|" \
	"$clawback_config"
sed -i "/^url = file/d; s|^ca_file.*|&\ncredentials_file = $work/credentials\npath_style = yes|" \
	"$clawback_config"
rm -rf "$work/state"
clawback init >/dev/null
clawback_volume v "$disk"
mount_volume "$disk" "$work/mnt"
pg_start "$work/mnt"
as_postgres "$pg_bin/pgbench" -q -i -s "$scale" -h "$work/mnt/run" postgres 2>/dev/null
pg_sql "$work/mnt" checkpoint
as_postgres "$pg_bin/pgbench" -n -t 1000 -c 4 -h "$work/mnt/run" postgres >/dev/null 2>&1
wanted=$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")
pg_stop "$work/mnt" immediate
unmount_volume "$work/mnt"
backup v

ms() { echo $(($(date +%s%N) / 1000000)); }
start=$(ms)
clawback restore v --to "$work/restored" "${clawback_key[@]}" >"$work/restore.out"
restore_ms=$(($(ms) - start))
sed 's/^/  /' "$work/restore.out"

ready() { grep -sq '"ready"' "$work/background.out" || ! kill -0 $clawback_pid; }
start=$(ms)
clawback_start serve v --overlay "$work/volume" --socket "$work/nbd.sock" "${clawback_key[@]}" --json
wait_for 60 ready
served_ms=$(($(ms) - start))
mkdir "$work/fuse"
nbdfuse -P "$work/fuse.pid" "$work/fuse/volume" --unix "$work/nbd.sock" &
fuse=$!
defer clawback_stop $fuse
defer umount -l "$work/fuse"
wait_for 20 test -s "$work/fuse.pid"
loop=$(losetup --find --show "$work/fuse/volume")
detach() { ! losetup "$loop" >/dev/null 2>&1 || losetup -d "$loop"; }
defer detach
mount_volume "$loop" "$work/mnt"
pg_start "$work/mnt"
pg_sql "$work/mnt" "SELECT 1" >/dev/null
up_ms=$(($(ms) - start))
sleep 1.5
fetched=$(sed -n 's/.*"fetched_bytes":\([0-9]*\).*/\1/p' "$work/background.out" | tail -n 1)
assert_equal "$wanted" "$(pg_sql "$work/mnt" "SELECT count(*), sum(delta) FROM pgbench_history")" \
	"what was committed"
stored=$(summary point.stored_bytes)
echo "  a restore takes $restore_ms ms; served after $served_ms ms, connections after $up_ms ms,"
echo "  with $fetched bytes fetched by then, of $stored stored"
[ "$fetched" -lt $((stored / 2)) ] || fail "half of it was fetched"
pg_stop "$work/mnt"
unmount_volume "$work/mnt"
losetup -d "$loop"
kill -TERM $clawback_pid
clawback_wait || fail "serve ended with $?: $(cat "$work/background.err")"
clawback_end
