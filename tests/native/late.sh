#!/bin/bash
# Libraries that few runs need are loaded by those alone; where one is missing or no
# library, these say so and what to install, and all others go on.
#
# timeout: 120
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "rpo = 1s" "provider = none"
fill "$disk" 1

echo "== a local store needs neither"
LD_DEBUG=files LD_DEBUG_OUTPUT="$work/loaded" clawback backup v >/dev/null
grep -q libcrypto "$work"/loaded.* || fail "what is loaded was not told"
! grep -E 'libcurl|libgnutls|libmicrohttpd' "$work"/loaded.* || fail "it was loaded"

echo "== a store in S3 needs libcurl"
mkdir "$work/broken"
echo none >"$work/broken/libcurl.so.4"
echo none >"$work/broken/libmicrohttpd.so.12"
export LD_LIBRARY_PATH=$work/broken
assert_refused 1 'could not load libcurl.so.4.*install libcurl4' clawback points v \
	--repository s3://127.0.0.1:1/bucket
clawback backup v >/dev/null || fail "a local store's run wants libcurl"
clawback points v >/dev/null

echo "== metrics over HTTP need libmicrohttpd"
sed -i "s|^state = .*|&\nmetrics_listen = 127.0.0.1:1|" "$clawback_config"
code=0
timeout 20 "$clawback_program" protect --config "$clawback_config" >"$work/out" 2>&1 || code=$?
[ $code != 0 ] && [ $code != 124 ] || fail "the daemon goes on without"
grep -q 'could not load libmicrohttpd.so.12.*install libmicrohttpd12' "$work/out" ||
	fail "it does not say so ($code): $(cat "$work/out")"
clawback_end
echo "ok"
