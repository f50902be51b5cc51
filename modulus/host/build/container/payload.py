"""The script around the payload in a container, and the reading of its output.

The script prints a random token on a line before the payload, and again with the payload's
status after it. These lines tell whether the container started at all, which output is the
payload's and which the container tool's, and how the payload ended, whatever that tool reports.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

# Arguments: token, KiB of address space or "", folder, flags, then the payload.
# One stream: the runtimes' tools copy two of them in no certain order.
# Flag w: all in the container ends when standard input does. It checks that it is in one:
# elsewhere "kill -1" would reach everything that its user runs.
# Flag o: the container sees its own control group; the script tells its count of kills.
# On one line: systemd writes a transient service's arguments into a unit file as they are.
SCRIPT = " ".join(
    line.strip()
    for line in r"""
token=$1 memory=$2 folder=$3 flags=$4; shift 4;
exec 3<&0 </dev/null 2>&1;
cd "$folder" || exit 125;
[ -z "$memory" ] || ulimit -v "$memory" || exit 125;
case $flags in *w*)
  [ $$ != 1 ] && [ "$container" != systemd-nspawn ] ||
    { read -r _ <&3; kill -s KILL -- -1; } &
esac;
printf '%s\n' "$token";
"$@" 3<&- &
wait $!;
status=$? killed=0;
case $flags in *o*)
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ ! -r $file ] || while read -r key n; do [ "$key" != oom_kill ] || killed=$n; done <$file;
  done;
esac;
printf '%s %d %d\n' "$token" "$status" "$killed";
exit "$status"
""".strip().splitlines()
)

_TOLD_LINES = 2
"""Lines kept of a container tool's reasons; usage and clean-up come after."""


class Watch:
    """Tells the payload's lines from the token's and the container tool's own."""

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self.token = secrets.token_hex(16)
        self.started = False
        self.status: int | None = None
        self.oom_kills = 0
        self.before: list[str] = []
        self.say = on_line

    def line(self, line: str) -> None:
        text, found, rest = line.partition(self.token)
        if not self.started:
            self.started = bool(found)
            if not found and line.strip() and len(self.before) < _TOLD_LINES:
                self.before.append(line.strip())
        elif found:
            if text:
                self.say(text)
            with contextlib.suppress(ValueError):
                self.status, self.oom_kills = map(int, rest.split())
        elif self.status is None:
            self.say(line)
