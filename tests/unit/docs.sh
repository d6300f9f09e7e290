#!/bin/bash
# The man pages say what the program does: the same verbs, options and keys.
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/clawback
bad=0
differs() { echo "FAILED: $*"; bad=1; }

mandoc -T lint -W warning docs/clawback.8 docs/clawback.conf.5 || differs "mandoc complains"

# Verbs, both ways.
"$program" --help | sed -n 's/^  \([a-z-]*\)  *[A-Z].*/\1/p' | sort >"$work/help-verbs"
sed -n 's/^\.It Cm \([a-z-]*\).*/\1/p' docs/clawback.8 | sort -u >"$work/page-verbs"
[ -s "$work/help-verbs" ] || differs "no verb in --help"
diff "$work/help-verbs" "$work/page-verbs" || differs "verbs: --help (<) and clawback.8 (>)"

# Options, both ways.
while read -r verb; do
	"$program" "$verb" --help >"$work/help" || differs "$verb --help exits with $?"
	grep -o -E -- '--[a-z][a-z-]+' "$work/help"
	# Synopsis and summary are there.
	grep -q "^usage: clawback $verb " "$work/help" || differs "$verb --help has no usage"
done <"$work/help-verbs" | sort -u >"$work/help-options"
grep -o -E 'Fl -[a-z][a-z-]+' docs/clawback.8 | sed 's/^Fl -/--/' | sort -u >"$work/page-options"
diff "$work/help-options" "$work/page-options" || differs "options: --help (<) and clawback.8 (>)"

# Keys of the configuration, both ways.
{
	sed -n 's/^\t{ "\([a-z_]*\)", KEY_.*/\1/p' agent/config/config_keys.c
	sed -n 's/.*strcmp(key, "\([a-z_]*\)").*/\1/p' agent/config/config_*.c
} | sort -u >"$work/code-keys"
sed -n 's/^\.It Cm \([a-z_]*\)$/\1/p' docs/clawback.conf.5 | sort -u >"$work/page-keys"
diff "$work/code-keys" "$work/page-keys" || differs "keys: code (<) and clawback.conf.5 (>)"

# Kinds of messages, both ways.
grep -o -h -E '"[0-9a-f]{32}"' agent/cli/verb_*.c | tr -d '"' | sort >"$work/ids"
sed -n 's/^\.It Li [a-z_]* , No \([0-9a-f]*\)$/\1/p' docs/clawback.8 | sort >"$work/page-ids"
[ -s "$work/ids" ] || differs "no message has an id"
diff "$work/ids" "$work/page-ids" || differs "message ids: code (<) and clawback.8 (>)"

# README opens with the two commands.
sed -n '/^```/,/^```/p' README.md | sed -n 2,3p | cut -d ' ' -f 1 >"$work/first"
printf 'scripts/quickstart\nscripts/test\n' | diff - "$work/first" || differs "README's first block"
# Exit codes, both ways.
sed -n 's/^\tEXIT_[A-Z_]* = \([0-9]*\),.*/\1/p' agent/base/error.h | sort >"$work/codes"
sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EXAMPLES/s/^\.It \([0-9]*\)$/\1/p' docs/clawback.8 | sort >"$work/page-codes"
diff "$work/codes" "$work/page-codes" || differs "exit codes: error.h (<) and clawback.8 (>)"
exit $bad
