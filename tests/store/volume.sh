#!/bin/bash
# A volume of 2 GiB goes to a real S3 server in multipart uploads over TLS and comes
# back identical; a wrong secret and a server in trouble are said for what they are.
#
# timeout: 600
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
code=0
RGW_LIFE_SECONDS=580 tests/store/rgw start "$work/rgw" || code=$?
[ $code != 77 ] || skip "the S3 server's packages are not installed"
[ $code = 0 ] || fail "the S3 server did not start"
defer tests/store/rgw stop "$work/rgw"
# shellcheck source=/dev/null
. "$work/rgw/env"
cp "$RGW_CA" "$work/ca.pem"
cp -p "$RGW_CREDENTIALS" "$work/credentials"

truncate -s 2G "$work/image"
device=$(losetup --find --show --direct-io=on "$work/image")
defer losetup -d "$device"
clawback_begin "$work/unused"
clawback_volume v "$device"
s3=(--repository "s3://$RGW_BUCKET/volumes" -o "repository.endpoint=$RGW_HTTPS"
	-o "repository.ca_file=$work/ca.pem" -o "repository.credentials_file=$work/credentials"
	-o repository.path_style=yes --state "$work/s3-state")
clawback init "${s3[@]}" >/dev/null
detach_all() { [ ! -d /sys/fs/bpf/clawback ] || clawback detach --all "${s3[@]}" >/dev/null; }
defer detach_all
fill "$device" 700 100
backup v "${s3[@]}"
[ "$(summary point.segments)" -ge 2 ] || fail "not in several segments: $(cat "$work/backup.json")"
fill "$device" 30 1500
backup v "${s3[@]}"
assert_kind incremental
clawback verify "${s3[@]}"
clawback restore v --to "$work/restored" "${s3[@]}" "${clawback_key[@]}" --verify
assert_same "$work/restored" "$work/image" $((2 << 30))
rm "$work/restored"

echo "== a wrong secret"
(umask 077; sed 's/^\(aws_secret_access_key *= *\).*/\1wrong/' "$work/credentials" >"$work/wrong")
assert_refused 1 "secret" clawback points v "${s3[@]}" -o "repository.credentials_file=$work/wrong"
! grep -q "$RGW_SECRET_KEY" "$work/refused.err" || fail "the secret was printed"
assert_refused 2 "ertificate" clawback points v "${s3[@]}" -o repository.ca_file=/dev/null

echo "== a server that went away"
tests/store/rgw stop "$work/rgw"
fill "$device" 1 10
assert_refused 1 "onnect" clawback backup v "${s3[@]}" -o repository.retries=1
