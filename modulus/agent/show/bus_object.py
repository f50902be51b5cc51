"""The agent's object on the bus: its state, and the calls that it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from modulus.core.status.bus_name import INTERFACE
from modulus.host.bus.values import text_maps


class Signal:
    """A signal in pydbus's manner: a call of it calls every connected callback."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[..., object]] = []

    def connect(self, callback: Callable[..., object]) -> contextlib.ExitStack:
        """Has ``callback`` called until what is returned is left."""
        self._callbacks.append(callback)
        stack = contextlib.ExitStack()
        stack.callback(self._callbacks.remove, callback)
        return stack

    def __call__(self, *values: object) -> None:
        for callback in tuple(self._callbacks):
            callback(*values)


class AgentService:
    """
    <node>
      <interface name="org.modulus1.Agent">
        <property name="Instance" type="s" access="read">
          <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
        </property>
        <property name="Phase" type="s" access="read"/>
        <property name="Progress" type="d" access="read"/>
        <property name="SecondsLeft" type="d" access="read"/>
        <property name="HoldSeconds" type="d" access="read"/>
        <property name="Since" type="s" access="read"/>
        <property name="Active" type="s" access="read"/>
        <property name="Selected" type="s" access="read"/>
        <property name="Generation" type="s" access="read"/>
        <property name="Key" type="s" access="read"/>
        <property name="Kernels" type="a(sb)" access="read"/>
        <property name="Findings" type="aa{sv}" access="read"/>
        <property name="Error" type="s" access="read"/>
        <property name="ErrorCode" type="i" access="read"/>
        <property name="Hint" type="s" access="read"/>
        <method name="Rebuild"/>
        <method name="Verify"/>
        <signal name="PhaseChanged"><arg name="phase" type="s"/></signal>
      </interface>
    </node>
    """

    # pydbus publishes what the docstring describes; docs/reference.md says what it means.

    def __init__(
        self,
        values: Mapping[str, Any],
        rebuild: Callable[[], object],
        verify: Callable[[], object],
    ) -> None:
        self._values: dict[str, Any] = {}
        # In the bus's types: made once for each change, and not for each question.
        self._answers: dict[str, Any] = {}
        self._keep(values)
        self._rebuild = rebuild
        self._verify = verify
        self.PropertiesChanged = Signal()
        self.PhaseChanged = Signal()

    def __getattr__(self, name: str) -> Any:
        """The properties."""
        try:
            return self.__dict__["_answers"][name]
        except KeyError:
            raise AttributeError(name) from None

    def Rebuild(self) -> None:  # noqa: N802 - the bus's name
        """Has what is missing built, for all installed kernels; returns at once."""
        self._rebuild()

    def Verify(self) -> None:  # noqa: N802 - the bus's name
        """Has the driver checked and put right; returns at once."""
        self._verify()

    def update(self, values: Mapping[str, Any]) -> None:
        """Sets the properties to ``values``, and tells which are new."""
        new = [name for name, value in values.items() if self._values.get(name) != value]
        self._keep({name: values[name] for name in new})
        if new:
            self.PropertiesChanged(INTERFACE, {name: self._answers[name] for name in new}, [])
        if "Phase" in new:
            self.PhaseChanged(values["Phase"])

    def _keep(self, values: Mapping[str, Any]) -> None:
        self._values.update(values)
        self._answers.update(values)
        if "Findings" in values:
            self._answers["Findings"] = text_maps(values["Findings"])
