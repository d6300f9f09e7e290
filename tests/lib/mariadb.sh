# shellcheck shell=bash disable=SC2154
# A MariaDB of a test's own, without network; sourced after tests/lib/guest.sh.
#
#   my_start FOLDER              a server in FOLDER/data (made if it is empty); its socket
#                                and log are in $work
#   my_stop                      in order; or my_kill FOLDER, as a power cut would
#   my_sql STATEMENT             unadorned rows on stdout
#   my_client                    the options for a client
#   my_writer TABLE...           inserts a row into each, again and again, each committed, until
#                                my_writer_stop; $work/written has a line with the last one's n
#                                for each round that the server confirmed
#   my_written                   how many
my_client=(--no-defaults --socket="$work/my.sock" --user=root)

my_start() {
	[ -x /usr/sbin/mariadbd ] || skip "no MariaDB: run scripts/bootstrap"
	if [ ! -d "$1/data" ]; then
		mkdir -p "$1/data"
		mariadb-install-db --no-defaults --datadir="$1/data" --user=root --skip-test-db \
			--auth-root-authentication-method=normal >"$work/my.install" 2>&1 ||
			fail "mariadb-install-db: $(tail -n 5 "$work/my.install")"
	fi
	/usr/sbin/mariadbd --no-defaults --datadir="$1/data" --socket="$work/my.sock" --user=root \
		--skip-networking --pid-file="$work/my.pid" --innodb-buffer-pool-size=32M \
		--innodb-log-file-size=8M --log-bin=binlog --sync-binlog=1 >>"$work/my.log" 2>&1 &
	my_pid=$!
	defer clawback_stop $my_pid
	wait_for 120 my_answers
}

my_answers() {
	kill -0 "$my_pid" || fail "MariaDB ended: $(tail -n 5 "$work/my.log")"
	mariadb-admin "${my_client[@]}" ping >/dev/null 2>&1
}

my_stop() {
	mariadb-admin "${my_client[@]}" shutdown
	wait "$my_pid"
}

my_kill() {
	kill -KILL "$my_pid"
	wait "$my_pid" 2>/dev/null || true
}

my_sql() { mariadb "${my_client[@]}" --batch --skip-column-names --execute="$1"; }

my_writer() {
	local table round=
	for table; do
		round+="INSERT INTO $table VALUES (NULL, UNIX_TIMESTAMP(NOW(6))); "
	done
	: >"$work/written"
	# The client must be the job, to be ended.
	mariadb "${my_client[@]}" --batch --skip-column-names --unbuffered >"$work/written" \
		2>"$work/writer.err" < <(while :; do
			echo "${round}SELECT LAST_INSERT_ID();"
		done) &
	my_writer_pid=$!
	defer clawback_stop $my_writer_pid
	wait_for 20 test -s "$work/written"
}

my_written() { wc -l <"$work/written"; }

my_writer_stop() {
	kill -0 "$my_writer_pid" || fail "the writer ended: $(tail -n 2 "$work/writer.err")"
	kill -KILL "$my_writer_pid"
	wait "$my_writer_pid" 2>/dev/null || true
}
