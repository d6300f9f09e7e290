#!/bin/bash
# The store's conformance suite against a real S3 server (rgw), directly and through
# a stub that injects faults (faulty): runs BUILD/tests/store/store_s3, to which
# arguments go. Exit code 77 and "skipped: WHY" without the server's packages.
#
# timeout: 600
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(cd "$here/../.." && realpath -m "${CLAWBACK_BUILD:-build}")/tests/store/store_s3
export no_proxy='*' NO_PROXY='*'

[ -x "$program" ] || { echo "FAILED: $program is not built (make tests)"; exit 1; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/clawback-rgw.XXXXXX")
stub=
finish() {
	[ -z "$stub" ] || kill "$stub" 2>/dev/null || true
	"$here/rgw" stop "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

code=0
"$here/rgw" start "$dir" || code=$?
[ "$code" -eq 0 ] || exit "$code"
# shellcheck source=/dev/null
. "$dir/env"
"$here/faulty" "${RGW_HTTP##*:}" "$dir/faulty.ports" &
stub=$!
for _ in $(seq 100); do
	[ ! -s "$dir/faulty.ports" ] || break
	sleep 0.1
done
read -r proxy control <"$dir/faulty.ports"
export FAULTY_HTTP=http://127.0.0.1:$proxy FAULTY_CONTROL=$control
timeout "${STORE_TEST_SECONDS:-900}" "$program" "$@" || code=$?
exit "$code"
