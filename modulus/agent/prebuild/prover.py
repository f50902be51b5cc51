"""Proves builds that took a shortcut, while there is nothing else to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence

from modulus.agent.loop import Cancel, Loop
from modulus.errors import IntegrityError
from modulus.host.process.spawn import spawn

_CALM = 60.0
"""Seconds of rest before it begins: a boot has other things to do."""
_PAUSE = 6 * 3600.0
"""Seconds before a proof that could not be made is tried again."""


class Prover:
    """Runs at most one child, ``command`` with ``env``, and ends it when other work begins.

    ``wanted`` names the builds that there are, None where nothing is to be proved. Builds that
    a child has been through are not looked at again. ``disproved`` is called when one was built
    wrong; the child has said so.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        wanted: Callable[[], frozenset[str] | None],
        loop: Loop,
        disproved: Callable[[], object],
        calm: float = _CALM,
        pause: float = _PAUSE,
    ) -> None:
        self._command = command
        self._env = env
        self._wanted = wanted
        self._loop = loop
        self._disproved = disproved
        self._calm = calm
        self._pause = pause
        self._pid: int | None = None
        self._timer: Cancel | None = None
        self._builds: frozenset[str] = frozenset()
        self._seen: frozenset[str] = frozenset()

    def rest(self) -> None:
        """Begins after a pause: there is nothing else to do now."""
        if self._pid is None and self._timer is None and self._news():
            self._timer = self._loop.after(self._calm, self._begin)

    def give_way(self) -> None:
        """Ends the child: there is something else to do."""
        if self._timer:
            self._timer()
            self._timer = None
        if self._pid is not None:
            os.kill(self._pid, signal.SIGTERM)

    def _news(self) -> frozenset[str]:
        builds = self._wanted()
        return frozenset() if builds is None else builds - self._seen

    def _begin(self) -> None:
        self._timer = None
        if self._news():
            self._builds = self._wanted() or frozenset()
            self._pid = spawn(self._command, env=self._env)
            self._loop.child(self._pid, self._ended)

    def _ended(self, code: int) -> None:
        self._pid = None
        if code < 0 or code > 128:
            # The child gave way; another begins when there is time.
            return
        if code not in (0, IntegrityError.code):
            # The cause may pass: a battery, little memory, missing inputs.
            self._timer = self._loop.after(self._pause, self._begin)
            return
        self._seen = self._builds
        if code == IntegrityError.code:
            self._disproved()
