#!/bin/bash
# A folder first, a real S3 server second: large objects go there in parts, a pass that is
# killed goes on, one without the server says so and costs nothing; from there alone all
# comes back.
#
# timeout: 300
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
code=0
RGW_LIFE_SECONDS=280 tests/store/rgw start "$work/rgw" || code=$?
[ $code != 77 ] || skip "the S3 server's packages are not installed"
[ $code = 0 ] || fail "the S3 server did not start"
defer tests/store/rgw stop "$work/rgw"
# shellcheck source=/dev/null
. "$work/rgw/env"
cp "$RGW_CA" "$work/ca.pem"
cp -p "$RGW_CREDENTIALS" "$work/credentials"

truncate -s 128M "$work/image"
device=$(losetup --find --show --direct-io=on "$work/image")
defer losetup -d "$device"
clawback_begin "$work/repository" open
sed -i '/^\[agent\]/a segment_size = 24M' "$clawback_config"
clawback_volume v "$device"
cat >>"$clawback_config" <<END

[store s3]
url = s3://$RGW_BUCKET/replica
endpoint = $RGW_HTTPS
ca_file = $work/ca.pem
credentials_file = $work/credentials
path_style = yes
part_size = 5M
retries = 1
bandwidth = 20M
END
fill "$device" 70 10
backup v
[ "$(summary point.segments)" -ge 3 ] || fail "not in several segments"

echo "== killed, and gone on"
clawback_start replicate
sleep 3
kill -KILL "$clawback_pid"
clawback_wait && fail "it was too quick to be killed"
assert_equal 0 "$(clawback points v --store s3 --json 2>/dev/null | jq '.points | length' || echo 0)" \
	"points there before what they need"
sed -i '/^bandwidth/d' "$clawback_config"
clawback replicate --json | tee "$work/out"
# What was there whole is not sent again.
jq -e '.points == 1 and .through == 1 and .objects < 5' "$work/out" >/dev/null || fail "$(cat "$work/out")"
fill "$device" 1 100
backup v
clawback replicate
clawback verify --data --store s3 "${clawback_key[@]}"
clawback doctor >"$work/out" || true	# it wants device-mapper, too
grep "ok .*s3 .*the same repository" "$work/out" || fail "doctor does not see the store"

echo "== the server is away"
fill "$device" 1 50
backup v
assert_refused 1 "onnect" clawback replicate -o "store s3.endpoint=https://127.0.0.1:1"
clawback replicate
clawback status v --json | jq -e '.volumes[0].stores[0] | .lag_points == 0 and .point == 3' >/dev/null ||
	fail "$(clawback status v)"

echo "== all that is left"
rm -r "$work/repository"
clawback restore v --to "$work/restored" "${clawback_key[@]}" 2>"$work/err"
grep "restoring from store s3" "$work/err" || fail "$(cat "$work/err")"
assert_same "$work/restored" "$work/image" $((128 << 20))
! grep -rq "$RGW_SECRET_KEY" "$work/state" || fail "the secret was written down"
