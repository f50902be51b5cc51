"""Notices when the driver's modules are loaded or unloaded, and when GPUs come and go."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence

from modulus.agent.loop import Cancel, Loop
from modulus.core.agent.events import GPUS, MODULES, Event, Tell
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.gpu.uevent import Uevent, pci_device
from modulus.core.pci import PciMatch, devices_of
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.recorded_state import (
    gpu_drift,
    module_drift,
    node_drift,
    read_recorded_state,
)
from modulus.host.watch.uevents import Uevents

_SETTLE = 1.0
"""Seconds. There may be several GPUs, and a reload of a module begins with its unload."""

_MODULE_ACTIONS = frozenset({"add", "remove"})
_GPU_ACTIONS = frozenset({"add", "remove", "bind", "unbind"})
"""Messages after which a GPU may be free for the driver, or gone."""

_LOST = "some messages of the kernel were lost"


class ModuleWatch:
    """Tells MODULES and GPUS events of ``driver``, by the kernel's own messages.

    Nothing is told where all is as recorded, such as after ``up`` itself. Where nothing is
    recorded, such as while a GPU is waited for, ``gpus`` says what a GPU is, and modules do not
    matter. ``uevents`` opens the kernel's messages, None where they would be another system's;
    ``deaf`` gets the reason where there are none.
    """

    def __init__(
        self,
        driver: DriverPaths,
        loop: Loop,
        tell: Tell,
        gpus: Callable[[], Sequence[PciMatch]],
        deaf: Callable[[str], object],
        uevents: Callable[[], Uevents] | None = Uevents,
    ) -> None:
        self._driver = driver
        self._loop = loop
        self._tell = tell
        self._gpus = gpus
        self._deaf = deaf
        self._open = uevents
        self._uevents: Uevents | None = None
        self._unlisten: Cancel | None = None
        self._timer: Cancel | None = None
        # In order. A repeated message takes no room, and postpones nothing.
        self._modules: dict[str, None] = {}
        self._devices: dict[str, None] = {}

    def start(self) -> None:
        """Listens, where the kernel, or what stands in for it, has such messages."""
        if self._uevents:
            return
        if self._open is None:
            self._deaf("this is another root")
            return
        try:
            self._uevents = self._open()
        except OSError as error:
            self._deaf(str(error))
            return
        self._unlisten = self._loop.readable(self._uevents.fileno(), self._read)

    def stop(self) -> None:
        """Listens no more, and forgets what has not been told yet."""
        if self._unlisten:
            self._unlisten()
            self._unlisten = None
        if self._uevents:
            self._uevents.close()
            self._uevents = None
        self._forget()

    def _forget(self) -> None:
        if self._timer:
            self._timer()
            self._timer = None
        self._modules, self._devices = {}, {}

    def _read(self) -> None:
        before = len(self._modules) + len(self._devices)
        state: RecordedState | None = None
        asked = False
        for event in self._uevents.take() if self._uevents else ():
            if event is None:
                self._modules[_LOST] = self._devices[_LOST] = None
            elif event.subsystem in ("module", "pci"):
                # Read once for all events, and only now: most are about other devices.
                if not asked:
                    state, asked = read_recorded_state(self._driver), True
                self._note(event, state)
        if len(self._modules) + len(self._devices) > before:
            if self._timer:
                self._timer()
            self._timer = self._loop.after(_SETTLE, self._settled)

    def _note(self, event: Uevent, state: RecordedState | None) -> None:
        """Keeps what matters of ``event`` until no more comes."""
        if event.subsystem == "module":
            name = posixpath.basename(event.fields.get("DEVPATH", ""))
            if event.action in _MODULE_ACTIONS and state and name in state.modules:
                self._modules[f"{event.action} {name}"] = None
            return
        device = pci_device(event)
        if device and event.action in _GPU_ACTIONS:
            wanted = state.pci if state else tuple(self._gpus())
            if devices_of(wanted, [device]):
                self._devices[f"{event.action} {device}"] = None

    def _settled(self) -> None:
        modules, devices = self._modules, self._devices
        self._forget()
        root, state = self._driver.root, read_recorded_state(self._driver)
        if state and modules and (module_drift(root, state) or node_drift(root, state)):
            self._tell(Event(MODULES, _said(modules)))
        if devices and (state is None or gpu_drift(root, state)):
            self._tell(Event(GPUS, _said(devices)))


def _said(messages: Iterable[str]) -> str:
    return f"the kernel says: {', '.join(messages)}"
