#!/bin/bash
# Every decoder of outside bytes has a fuzzer with inputs kept for it, and stands
# them and a few thousand changed ones. (scripts/fuzz goes on for longer, and a full
# run has it do so: led by coverage, by libFuzzer.)
#
# timeout: 300
# full-timeout: 1200
. "$(dirname "$0")/../lib/guest.sh"

bad=0
wrong() { echo "FAILED: $*"; bad=1; }

# A harness without inputs knows little of its format; inputs without a harness are
# those of a decoder that is not fuzzed any more.
scripts/fuzz --list | sort >"$work/harnesses"
find tests/fuzz/corpus -type f -printf '%P\n' | sed 's|/.*||' | sort -u >"$work/corpora"
diff "$work/harnesses" "$work/corpora" || wrong "harnesses (<) and folders of tests/fuzz/corpus (>)"

# Where bytes from outside are decoded, and by which harness.
cat >"$work/decoders" <<'END'
blockmap/map_codec.c blockmap_map
agent/config/config.c config_file
agent/config/config_keys.c config_keys
agent/config/config_schedule.c config_keys
agent/crypto/key_file.c crypto_key_file
agent/crypto/passphrase.c crypto_passphrase
agent/crypto/text.c crypto_text
agent/crypto/wrap.c crypto_wrap
agent/disk/layout_decode.c disk_layout
agent/disk/report.c disk_report
agent/pipeline/frame_decode.c pipeline_frame
agent/pipeline/segment.c pipeline_segment
agent/protect/daemon_file.c protect_facts
agent/protect/drill_file.c protect_drills
agent/protect/replicas_file.c protect_replicas
agent/repo/drill.c repo_drill
agent/repo/drill_json.c repo_drill
agent/repo/json.c repo_manifest
agent/repo/map_seal.c repo_map
agent/repo/pack_index.c repo_pack
agent/repo/packs.c repo_pack
agent/repo/point_facts.c repo_facts
agent/repo/point_load.c repo_point
agent/repo/point_manifest.c repo_manifest
agent/repo/prune_names.c repo_sweep
agent/repo/prune_sweep.c repo_sweep
agent/repo/repo.c repo_root
agent/repo/repo_volume.c repo_volume
agent/repo/retention.c repo_retention
agent/repo/retention_json.c repo_retention
agent/restore/journal_codec.c restore_journal
agent/restore/plan.c restore_plan
agent/serve/present.c serve_present
agent/store/credentials.c store_credentials
agent/store/s3_endpoint.c store_url
agent/store/s3_transfer.c store_answers
agent/store/s3_xml.c store_xml
agent/volume/fingerprint.c volume_fingerprints
agent/volume/fingerprint_journal.c volume_fingerprints
agent/volume/handover.c volume_handover
agent/volume/pending.c volume_pending
agent/volume/recover.c volume_helpers
agent/volume/slot_codec.c volume_slot
agent/volume/state.c volume_state
agent/volume/sysfs.c volume_mounts
END
while read -r source harness; do
	[ -e "$source" ] || wrong "$source is gone: where does $harness look now?"
	[ -e "tests/fuzz/$harness.c" ] || wrong "$source has no fuzzer $harness"
done <"$work/decoders"
# A new user of a parser is a new decoder.
grep -l -E 'json_loadb?\(|XML_Parse\(|PEM_read_|ZSTD_decompress|ini_config_parse\(' \
	agent/*/*.c blockmap/*.c bpf/*.c | sort >"$work/parsers"
cut -d ' ' -f 1 "$work/decoders" | sort | comm -23 "$work/parsers" - >"$work/unknown"
[ ! -s "$work/unknown" ] || wrong "no fuzzer is named for: $(tr '\n' ' ' <"$work/unknown")"
[ $bad = 0 ] || exit 1

# The build folder is scripts/test's; what it has built already is not built again.
if is_full; then
	BUILD=$CLAWBACK_BUILD scripts/fuzz --seconds 20
	exit
fi
asan=$CLAWBACK_BUILD/asan
# shellcheck disable=SC2046
make -s BUILD="$asan" SANITIZER=address,undefined "CFLAGS=-O1 -g1 -fuse-ld=gold" $(sed "s|^|$asan/tests/fuzz/|" "$work/harnesses")
export ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=16
while read -r harness; do
	"$asan/tests/fuzz/$harness" "$CLAWBACK_SEED" 2000 "tests/fuzz/corpus/$harness" "$work/input" \
		>"$work/out" 2>&1 || {
		tail -n 40 "$work/out"
		mkdir -p "$CLAWBACK_BUILD/fuzz/found"
		# Its length comes first.
		tail -c +9 "$work/input" | head -c "$(od -A n -t u8 -N 8 "$work/input" | tr -d ' ')" \
			>"$CLAWBACK_BUILD/fuzz/found/$harness-input"
		wrong "$harness: the input is kept as $CLAWBACK_BUILD/fuzz/found/$harness-input"
	}
	echo "$harness: $(tail -n 1 "$work/out")"
done <"$work/harnesses"
[ $bad = 0 ]
