"""Frozen dataclasses that are made quickly.

``dataclasses.dataclass(frozen=True)`` compiles six functions for each class, which is two
fifths of the time that a warm start takes to import its modules (scripts/bench will have the
number). Here all classes share their methods; fields, ``replace`` and ``asdict`` are the
standard library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    # To those who check types it is the standard library's.
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, **more: Any) -> Callable[[type], type]:
        """``dataclasses.dataclass``; with ``more`` options it is that very one."""
        if more or not frozen:
            return dataclasses.dataclass(frozen=frozen, **more)
        return _frozen


_Class = TypeVar("_Class", bound=type)
_DEFAULTS = "__modulus_defaults__"


def _frozen(cls: _Class) -> _Class:
    own = set(vars(cls))
    # All that it does then is to collect the fields.
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    setattr(made, _DEFAULTS, {each.name: _default(each) for each in dataclasses.fields(made)})
    for name, method in _METHODS.items():
        if name not in own:
            setattr(made, name, method)
    return cls


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    factory = field.default_factory
    return None if factory is dataclasses.MISSING else factory


def _init(self: Any, /, *args: Any, **given: Any) -> None:
    defaults = getattr(self, _DEFAULTS)
    if len(args) > len(defaults):
        raise TypeError(f"{type(self).__name__} takes {len(defaults)} values, not {len(args)}")
    values = dict(zip(defaults, args, strict=False))
    for name, value in given.items():
        if name not in defaults or name in values:
            what = "has no field" if name not in defaults else "is given twice"
            raise TypeError(f"{type(self).__name__} {what} {name}")
        values[name] = value
    for name, default in defaults.items():
        if name not in values:
            if default is None:
                raise TypeError(f"{type(self).__name__} lacks {name}")
            values[name] = default()
    self.__dict__.update(values)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(self.__dict__[name] for name in getattr(self, _DEFAULTS))


def _repr(self: Any) -> str:
    shown = (f"{name}={self.__dict__[name]!r}" for name in getattr(self, _DEFAULTS))
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(_self: Any, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
