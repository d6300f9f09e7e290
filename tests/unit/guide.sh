#!/bin/bash
# What docs/troubleshooting.md quotes is what the program says, and no reason for distrust
# is left out there; the example in docs/guide.md has every key there is and no other, and
# the program takes it.
. "$(dirname "$0")/../lib/guest.sh"

program=$CLAWBACK_BUILD/clawback
bad=0
differs() { echo "FAILED: $*"; bad=1; }

# ---- messages -----------------------------------------------------------------
# Quoted is a line "> MESSAGE", or what begins a table's row, "| `MESSAGE` |"; an ellipsis
# stands for anything. It must lie within one string of the source, whose parts are joined
# over lines and PRI… macros.
cat >"$work/messages.pl" <<'END_OF_PERL'
use strict;
use warnings;
use utf8;

sub slurp {
	my ($name) = @_;
	open(my $in, '<:encoding(UTF-8)', $name) or die "$name: $!";
	local $/;
	return <$in>;
}

sub strings {
	my ($text) = @_;
	my @found;
	while ($text =~ /((?:"(?:[^"\\\n]|\\.)*"\s*(?:PRI\w+\s*)?)+)/g) {
		my ($parts, $string) = ($1, '');
		$string .= $1 while $parts =~ /"((?:[^"\\]|\\.)*)"/g;
		$string =~ s/\\(["\\])/$1/g;
		push @found, $string;
	}
	return @found;
}

my ($page, @sources) = @ARGV;
my $said = join("\n", map { strings(slurp($_)) } @sources);
my (@quoted, $bad);
for (split /\n/, slurp($page)) {
	push @quoted, $1 if /^> (.+)$/ || /^\| `(.+?)` \|/;
}
die "$page quotes nothing\n" unless @quoted > 50;
for my $quote (@quoted) {
	my $pattern = join('[^\n]*', map { quotemeta } split /…/, $quote);
	next if $said =~ /$pattern/;
	print "not in the source: $quote\n";
	$bad = 1;
}
# The other way round, for what speaks against trust.
for my $file ('agent/volume/judge.c', 'agent/volume/handover_judge.c') {
	my $text = slurp($file);
	my $reasons = 0;
	while ($text =~ /return (?:judge|handover)_say\(why, room,\s*(".*?)\);/gs) {
		my ($reason) = strings($1);
		next if $reason eq '%s';
		$reasons++;
		next if grep {
			my $pattern = join('.*', map { quotemeta } split /…/, $_);
			$reason =~ /$pattern/;
		} @quoted;
		print "$file: not on the page: $reason\n";
		$bad = 1;
	}
	die "$file has no reasons\n" unless $reasons > 5;
}
exit($bad ? 1 : 0);
END_OF_PERL
perl -CS "$work/messages.pl" docs/troubleshooting.md agent/*/*.c bpf/*.c ||
	differs "docs/troubleshooting.md and the source"

# ---- the example --------------------------------------------------------------
sed -n '/^```ini$/,/^```$/p' docs/guide.md | sed '1d;$d' >"$work/clawback.conf"
# Commented out is what does not go with the rest.
sed -n 's/^\(# \)\{0,1\}\([a-z_]*\) = .*/\2/p' "$work/clawback.conf" | sort -u >"$work/example-keys"
sed -n 's/^\.It Cm \([a-z_]*\)$/\1/p' docs/clawback.conf.5 | sort -u >"$work/page-keys"
[ -s "$work/page-keys" ] || differs "no key in clawback.conf.5"
diff "$work/example-keys" "$work/page-keys" || differs "keys: guide.md (<) and clawback.conf.5 (>)"
# The devices and the repository are not here, which doctor says with 1; 2 is the file.
code=0
sed '/^fingerprint = /d' "$work/clawback.conf" >"$work/without"
"$program" doctor --config "$work/without" --state "$work/state" \
	-r "file://$work/none" --json >"$work/doctor" 2>&1 || code=$?
[ "$code" = 1 ] || differs "doctor on the example exits with $code: $(cat "$work/doctor")"
for volume in $(sed -n 's/^\[volume \(.*\)\]$/\1/p' "$work/clawback.conf"); do
	grep -q "\"$volume\"" "$work/doctor" || differs "doctor says nothing of volume $volume"
done

# ---- links --------------------------------------------------------------------
for page in docs/guide.md docs/troubleshooting.md; do
	while IFS='#' read -r file anchor; do
		[ -z "$file" ] || [ -e "docs/$file" ] || differs "$page links to $file"
		[ -n "$anchor" ] || continue
		sed -n 's/^##* //p' "docs/${file:-${page#docs/}}" | tr 'A-Z ' 'a-z-' |
			tr -cd 'a-z0-9\n_-' | grep -qxF -- "$anchor" ||
			differs "$page links to ${file:-itself}#$anchor"
	done < <(grep -o '](\([^):]*\))' "$page" | sed 's/^](//; s/)$//')
done
exit $bad
