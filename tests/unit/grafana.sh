#!/bin/bash
# The dashboard is JSON; it, the alerts and the man page name the metrics that there
# are, and no others.
. "$(dirname "$0")/../lib/guest.sh"

bad=0
differs() { echo "FAILED: $*"; bad=1; }
names() { grep -o -h -E '\bclawback_[a-z_]+' "$@" | sort -u; }

jq -e '.title == "clawback" and (.panels | length) > 0 and ([.panels[].id] | unique | length) ==
	(.panels | length)' scripts/grafana/clawback.json >/dev/null || differs "no dashboard"
jq -r '.. | .expr? // empty' scripts/grafana/clawback.json >"$work/expressions"
[ -s "$work/expressions" ] || differs "the dashboard asks for nothing"

names agent/protect/metrics.c agent/protect/metrics_values.c >"$work/metrics"
names "$work/expressions" | comm -13 "$work/metrics" - >"$work/unknown"
[ ! -s "$work/unknown" ] || differs "the dashboard wants $(cat "$work/unknown")"
sed 's/#.*//' scripts/grafana/alerts.yml >"$work/alerts"
names "$work/alerts" | comm -13 "$work/metrics" - >"$work/unknown"
[ ! -s "$work/unknown" ] || differs "the alerts want $(cat "$work/unknown")"
names docs/clawback.8 | diff "$work/metrics" - || differs "metrics: code (<) and clawback.8 (>)"
exit $bad
