# shellcheck shell=bash
# Pages whose commands a test runs as they stand there. Above each block of them is a mark,
# "<!-- run: NAME -->", or "<!-- differs: WHY -->" for one that no test runs; above a file's
# content, "```ini", "<!-- file: NAME -->". Sourced after tests/lib/guest.sh.
#
#   page_blocks PAGE NAME    the blocks to be run of that name, one after the other
#   page_file PAGE NAME      that file's content
#   page_names PAGE          the names of blocks to be run, a line each
#   page_check PAGE          fails when a block has no mark, or a mark no block
page_marked() {
	awk -v want="<!-- $2 -->" -v fence="\`\`\`$3" '/^<!-- /{ mark = $0; next }
		$0 == fence { on = mark == want; mark = ""; next } /^```$/ { on = 0; next } on' "$1"
}
page_blocks() { page_marked "$1" "run: $2" sh; }
page_file() { page_marked "$1" "file: $2" ini; }
page_names() { sed -n 's/^<!-- run: \(.*\) -->$/\1/p' "$1" | sort -u; }

page_check() {
	local bad
	assert_equal "$(grep -c '^```sh$' "$1")" "$(grep -c '^<!-- \(run\|differs\): .* -->$' "$1")" \
		"blocks of $1, and what is said of whether they are run"
	bad=$(grep -A1 '^<!-- ' "$1" | grep -v '^<!-- \|^--$\|^```sh$\|^```ini$' || :)
	[ -z "$bad" ] || fail "$1: a mark above no block: $bad"
}
