"""What is done inside of a machine, through QEMU's guest agent."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.vm.channel import Channel, ChannelError

T = TypeVar("T")

PATIENCE = 900.0
"""Seconds that anything may take, emulated and on a busy host: what has not come about by then
never will. A test whose matter is how fast it does has a bound of its own."""

_PIECE = 1 << 20  # bytes of a file at a time


class GuestError(Exception):
    """A command failed, or something did not come about in time."""


@dataclass(frozen=True)
class Done:
    """How a command ended; ``status`` is 128 and the signal's number if it was killed."""

    status: int
    stdout: str
    stderr: str


class Guest:
    """The running system, as root."""

    def __init__(self, path: Path, alive: Callable[[], bool]) -> None:
        self._channel = Channel(path, alive)
        self._number = 0

    def close(self) -> None:
        self._channel.close()

    def connect(self, timeout: float) -> None:
        """Waits for the agent, which the guest starts early in its boot."""
        deadline = time.monotonic() + timeout
        while True:
            # Asked again now and then: what is sent before the agent listens may be lost.
            self._number += 1
            self._channel.send("guest-sync", id=self._number)
            try:
                while self._channel.receive(5).get("return") != self._number:
                    pass
                return
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise GuestError(f"no guest agent in {timeout:.0f} s") from None

    def run(
        self,
        *words: str | Path,
        stdin: str = "",
        timeout: float = PATIENCE,
        check: bool = True,
    ) -> Done:
        """Runs a command to its end; GuestError if it fails, unless ``check`` is off."""
        pid = self._exec(words, stdin)
        deadline, pause = time.monotonic() + timeout, 0.02
        while not (state := self._ask("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                raise GuestError(f"{_line(words)} still runs after {timeout:.0f} s")
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)
        signal = state.get("signal")
        status = 128 + signal if signal else state["exitcode"]
        done = Done(status, _text(state, "out-data"), _text(state, "err-data"))
        if check and done.status:
            raise GuestError(f"{_line(words)}: {done.status}: {done.stderr or done.stdout}")
        return done

    def start(self, *words: str | Path) -> int:
        """Starts a command and lets it run; returns its pid."""
        return self._exec(words, "")

    def read(self, path: str) -> str:
        """The text of a file, those of /proc and /sys included."""
        return self.run("cat", path).stdout

    def push(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Copies a file of the host's into the guest."""
        handle = self._ask("guest-file-open", path=path, mode="w")
        with open(source, "rb") as file:
            while piece := file.read(_PIECE):
                coded = base64.b64encode(piece).decode()
                self._ask("guest-file-write", handle=handle, buf_b64=coded)
        self._ask("guest-file-close", handle=handle)
        self.run("chmod", f"{mode:o}", path)

    def write(self, path: str, text: str) -> None:
        """Makes a file, and its folder."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        self.run("sh", "-c", script, "sh", path, stdin=text)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit of systemd's."""
        wanted = [f"--property={each}" for each in properties]
        lines = self.run("systemctl", "show", name, *wanted).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, *words: str) -> str:
        """What journalctl shows of this boot, with all that has been said by now."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--boot", "--quiet", *words).stdout

    def said(self, unit: str, *options: str) -> str:
        """What ``journalctl -u`` shows of a unit's processes since it was started last."""
        invocation = self.unit(unit, "InvocationID")["InvocationID"]
        assert invocation, f"{unit} was not started"
        of = f"SYSTEMD_INVOCATION_ID={invocation}"
        words = ("--output=cat", f"--unit={unit}", *options)
        return self.journal(*words, f"_{of}", "+", f"OBJECT_{of}")

    def kernel_said(self, text: str) -> list[str]:
        """The kernel's messages of this boot that have ``text``."""
        lines = self.journal("--dmesg", "--output=cat").splitlines()
        return [line for line in lines if text in line]

    def wait_for_unit(
        self,
        name: str,
        states: Collection[str] = ("active", "failed"),
        timeout: float = PATIENCE,
    ) -> str:
        """The state of a unit, once it is one of these."""
        return self.wait_for(
            lambda: (
                state
                if (state := self.unit(name, "ActiveState")["ActiveState"]) in states
                else ""
            ),
            f"{name} to be {' or '.join(states)}",
            timeout,
        )

    def wait_for(
        self,
        question: Callable[[], T],
        what: str,
        timeout: float = PATIENCE,
        pause: float = 1,
    ) -> T:
        """The answer to a question that is asked until there is one (that is true)."""
        deadline = time.monotonic() + timeout
        while not (answer := question()):
            if time.monotonic() > deadline:
                raise GuestError(f"waited {timeout:.0f} s in vain for {what}")
            time.sleep(pause)
        return answer

    def _exec(self, words: tuple[str | Path, ...], stdin: str) -> int:
        first, *rest = map(str, words)
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]
        coded = {"input_data": base64.b64encode(stdin.encode()).decode()} if stdin else {}
        started = self._ask(
            "guest-exec", path=first, arg=rest, env=environment, capture_output=True, **coded
        )
        return int(started["pid"])

    def _ask(self, command: str, /, **arguments: Any) -> Any:
        self._channel.send(command, **arguments)
        try:
            answer = self._channel.receive(60)
        except TimeoutError as error:
            raise ChannelError(f"{command}: {error}") from error
        if "error" in answer:
            raise ChannelError(f"{command}: {answer['error'].get('desc')}")
        return answer["return"]


def _line(words: tuple[str | Path, ...]) -> str:
    return shlex.join(map(str, words))


def _text(state: dict[str, Any], name: str) -> str:
    return base64.b64decode(state.get(name, "")).decode("utf-8", "replace")
