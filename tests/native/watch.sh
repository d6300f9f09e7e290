#!/bin/bash
# `status --watch` on a terminal (a pseudo-terminal that a small emulator reads): it draws
# in place, follows writes, a point and the window's size, stops and goes on, and gives the
# terminal back however it ends; elsewhere it writes one below the other, and JSON lines.
#
# timeout: 180
own_mounts=1
. "$(dirname "$0")/../lib/guest.sh"
. tests/lib/clawback.sh

[ "$(id -u)" = 0 ] || skip "not root"
clawback_begin "$work/repository" open
make_disk disk 4M
clawback_volume v "$disk" "rpo = 1h" "provider = none"
backup v

cat >"$work/drive.py" <<'PY'
# Runs `status --watch` on a terminal of its own and plays through it.
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

program, config, disk, language = sys.argv[1:5]

class Screen:
    """What a terminal would show: the few sequences that the program uses, no others."""
    def __init__(self, lines, columns):
        self.resize(lines, columns)
        self.alternate, self.cursor, self.frames, self.rest = False, True, 0, ""
    def resize(self, lines, columns):
        self.lines, self.columns = lines, columns
        self.text = [[" "] * columns for _ in range(lines)]
        self.y = self.x = 0
        # What was on the way is of the old size.
        self.strict_from = time.time() + 2
    def overflow(self, what):
        assert time.time() < self.strict_from, what
    def feed(self, data):
        data = self.rest + data
        self.rest = ""
        while data:
            if data[0] == "\x1b":
                match = re.match(r"\x1b\[(\??)([0-9;]*)([A-Za-z])", data)
                if not match:
                    self.rest = data
                    return
                self.sequence(*match.groups())
                data = data[match.end():]
                continue
            c, data = data[0], data[1:]
            if c == "\r":
                self.x = 0
            elif c == "\n":
                self.y += 1
                if self.y >= self.lines:
                    self.overflow("it scrolled")
                    self.y = self.lines - 1
            else:
                assert c >= " ", "control character %r" % c
                if self.x >= self.columns:
                    self.overflow("a line too long: " + "".join(self.text[self.y]))
                    continue
                self.text[self.y][self.x] = c
                self.x += 1
    def sequence(self, private, number, letter):
        if private:
            on = letter == "h"
            assert number in ("1049", "25") and letter in "hl", (number, letter)
            if number == "1049":
                self.alternate = on
            else:
                self.cursor = on
        elif letter == "H":
            self.y = self.x = 0
            self.frames += 1
        elif letter == "K":
            self.text[self.y][self.x:] = [" "] * (self.columns - self.x)
        elif letter == "J":
            if number == "2":
                self.text = [[" "] * self.columns for _ in range(self.lines)]
            else:
                for line in self.text[self.y + 1:]:
                    line[:] = [" "] * self.columns
        else:
            assert letter == "m", letter
    def show(self):
        return "\n".join("".join(line).rstrip() for line in self.text)

class Watch:
    def __init__(self, lines, columns, term="xterm"):
        self.screen = Screen(lines, columns)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execve(program, [program, "status", "--config", config, "--watch=0.2"],
                      {"TERM": term, "LC_ALL": language, "PATH": os.environ["PATH"]})
        self.ended = None
        self.raw = ""
    def read(self, seconds=0.05):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                return
            self.raw += data
            self.screen.feed(data)
    def until(self, what, seconds=30):
        end = time.time() + seconds
        while not what():
            assert time.time() < end, "waited in vain; shown is:\n" + self.screen.show()
            self.read()
    def shows(self, pattern):
        return re.search(pattern, self.screen.show(), re.M)
    def resize(self, lines, columns):
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    def echo(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)
    def end(self):
        end = time.time() + 30
        while True:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            assert time.time() < end, "it did not end"
        self.read()
        assert not self.screen.alternate and self.screen.cursor, "the screen was not given back"
        assert self.echo(), "what is typed stays hidden"
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

def write(kib, at):
    fd = os.open(disk, os.O_WRONLY)
    os.pwrite(fd, os.urandom(kib * 1024), at)
    os.fsync(fd)
    os.close(fd)

blocks = "▁▂▃▄▅▆▇█" if "UTF-8" in language else r".:\-=+*%#"
watch = Watch(20, 140)
watch.until(lambda: watch.shows(r"^v +tracked .* 0 B .* 1, .* ago"))
assert watch.screen.alternate and not watch.screen.cursor and not watch.echo()
assert watch.shows(r"every 0.2 s; the daemon does not run; 0 missed")
write(64, 0)
watch.until(lambda: watch.shows(r"^v +tracked .* 64\.0 KiB .*[%s]" % blocks))
watch.until(lambda: watch.shows(r"[0-9.]+ (ms|s) / 1 h 0 min"))
# In place: many frames, and still at the same lines.
had = watch.screen.frames
watch.until(lambda: watch.screen.frames > had + 3)
assert watch.screen.text[2][0] == "v"
# Another size, at once.
watch.resize(10, 70)
watch.until(lambda: watch.shows(r"64\.0 KiB dirty, .* point 1, "))
watch.resize(3, 20)
watch.until(lambda: watch.shows(r"^more than fits; nam>"))
watch.resize(20, 140)
watch.until(lambda: watch.shows(r"^v +tracked .* 64\.0 KiB "))
# Stopped by Ctrl-Z, with the shell's screen; then it goes on.
os.write(watch.fd, b"\x1a")
watch.until(lambda: not watch.screen.alternate and watch.screen.cursor)
for _ in range(50):
    if open("/proc/%d/stat" % watch.pid).read().split(") ")[1][0] == "T":
        break
    time.sleep(0.1)
else:
    raise AssertionError("it is not stopped")
assert watch.echo()
os.kill(watch.pid, signal.SIGCONT)
watch.until(lambda: watch.screen.alternate and watch.shows(r"^v +tracked "))
# Ctrl-C, as typed.
os.write(watch.fd, b"\x03")
assert watch.end() == 0, "its exit code"

watch = Watch(20, 140)
watch.until(lambda: watch.shows("^v +tracked"))
os.write(watch.fd, b"q")
assert watch.end() == 0, "its exit code"

watch = Watch(20, 140)
watch.until(lambda: watch.shows("^v +tracked"))
os.kill(watch.pid, signal.SIGTERM)
assert watch.end() == 0, "its exit code"

# A terminal that cannot be drawn on gets plain pages.
watch = Watch(200, 140, "dumb")
watch.until(lambda: len(re.findall("^v +tracked", watch.screen.show(), re.M)) >= 2)
os.write(watch.fd, b"\x03")
watch.end()
assert "\x1b" not in watch.raw
PY
echo "== on a terminal, in UTF-8 and without"
python3 "$work/drive.py" "$clawback_program" "$clawback_config" "$disk" C.UTF-8
backup v >/dev/null
sed -i 's/ 1, .*ago"/ [0-9], .* ago"/; s/point 1, /point [0-9], /' "$work/drive.py"
python3 "$work/drive.py" "$clawback_program" "$clawback_config" "$disk" C

echo "== elsewhere"
clawback_start status --watch=0.2
pages() { [ "$(grep -s -c '^v  *tracked' "$work/background.out" || true)" -ge 3 ]; } 2>/dev/null
wait_for 30 pages
kill -TERM "$clawback_pid"
clawback_wait
! grep -q $'\033' "$work/background.out" || fail "it has escape sequences"
clawback_start status --watch=0.2 --json
lines() { jq -e -s 'length >= 3 and all(.[]; (.time | test("Z$")) and .volumes[0].name == "v") and
	(.[2].volumes[0].written_bytes_per_second | type) == "number"' "$work/background.out" >/dev/null 2>&1; }
wait_for 30 lines
kill -TERM "$clawback_pid"
clawback_wait
assert_equal "$(wc -l <"$work/background.out")" "$(jq -c . "$work/background.out" | wc -l)" "lines"
# Who has seen enough: the reader goes away.
timeout 20 "$clawback_program" status --config "$clawback_config" --watch=0.1 --json 2>"$work/broken" |
	head -n 1 >/dev/null || true
grep -q "nobody reads standard output" "$work/broken" || fail "$(cat "$work/broken")"
assert_refused 2 "from 0.1 to 3600" clawback status --watch=0
assert_refused 2 "from 0.1 to 3600" clawback status --watch=nan
assert_refused 2 "no volume \"none\"" clawback status --watch none
clawback_end
