#!/bin/bash
# Power fails at random moments, under load and with runs under way, a hundred times:
# after each the volume is untrusted, the next run compares, and its point is just
# what its snapshot showed; nothing that was stored before is lost.
#
# kernels: 6.1 6.12
# guest: host
# full-only: yes
# timeout: 5400
. "$(dirname "$0")/../lib/guest.sh"

cuts=${CLAWBACK_POWERCUTS:-100}
mkdir "$work/share"
truncate -s 32M "$work/volume"
truncate -s 6G "$work/repository"
mkfs.ext4 -q -F "$work/repository"

cat >"$work/share/boot.sh" <<'END'
. tests/lib/guest.sh
number=$1 seconds=$2
mkdir -p /srv/lab
mount /dev/vdb /srv/lab
rm -rf "$work"
work=/srv/lab
. tests/lib/clawback.sh
make_linear_volume volume labvolume /dev/vda
if [ "$number" = 0 ]; then
	clawback_begin "$work/repository" open
	clawback_volume v "$volume"
	sync "$clawback_config"	# the test's own; what clawback writes it must sync itself
	fill "$volume" 20
	backup v
else
	assert_equal untrusted "$(clawback status v --json | jq -r '.volumes[0].trust')" "trust after a power cut"
	backup v
	[ -n "$(summary point.reason)" ] || fail "it was trusted"
	[ "$(summary rescan)" = true ] || [ "$(summary point.kind)" = full ] || fail "it compared nothing"
	echo "boot $number: $(summary point.kind), rescan $(summary rescan)"
	assert_restores v@latest
fi
# From here on to the end of this boot: writers, runs, and no warning.
(sleep "$seconds"; guest_power_cut) &
load_start v "$volume" 2
while :; do
	clawback backup v --image-digest >/dev/null
	sleep 0.$((RANDOM % 10))
done
END

RANDOM=$((CLAWBACK_SEED % 32768))
for ((i = 0; i <= cuts; i++)); do
	assert_exit 99 guest_run --timeout 200 --memory 1024 --disk-file "$work/volume" \
		--disk-file "$work/repository" --share "$work/share" -- \
		bash "$work/share/boot.sh" $i $((RANDOM % 12)).$((RANDOM % 10))
done

# ---- here: everything that was ever acknowledged, and what was not ----------------------
mkdir -p "$work/mnt"
mount -o loop "$work/repository" "$work/mnt"
defer umount "$work/mnt"
clawback() {
	local verb=$1
	shift
	"$CLAWBACK_BUILD/clawback" "$verb" --config "$work/mnt/clawback.conf" "$@"
}
sed -i "s|/srv/lab|$work/mnt|" "$work/mnt/clawback.conf"
clawback verify || fail "the repository does not verify"
restored=0
while read -r number wanted bytes; do
	clawback restore "v@$number" --to "$work/restored" --force --recovery-key "$work/mnt/recovery.pem" \
		>/dev/null || fail "restoring point $number"
	got=$(head -c "$bytes" "$work/restored" | sha256sum)
	assert_equal "$wanted" "${got%% *}" "SHA-256 of point $number restored"
	restored=$((restored + 1))
done < <(clawback points v --json | jq -r '.points[] | "\(.number) \(.image_sha256) \(.volume_bytes)"')
echo "$cuts power cuts, $restored points restored, all identical"
[ $restored -gt "$cuts" ] || fail "fewer points than boots"
