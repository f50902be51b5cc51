"""Frozen dataclasses that are made quickly.

``dataclasses.dataclass(frozen=True)`` compiles six functions for each class, and the module
itself imports a good part of the standard library: together more than half of the time that a
warm start takes to import its modules. Here all classes share their methods, and nothing is
imported. To the standard library they are dataclasses all the same: what it wants to know
of a class is made when it asks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    # To those who check types all of it is the standard library's.
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    def dataclass(*, frozen: bool, order: bool = False, **more: Any) -> Callable[[type], type]:
        """``dataclasses.dataclass``; with ``more`` options it is that very one."""
        if more or not frozen:
            import dataclasses

            return dataclasses.dataclass(frozen=frozen, order=order, **more)
        return lambda cls: _frozen(cls, _METHODS | _ORDER if order else _METHODS)

    def field(*, default_factory: Callable[[], Any]) -> Any:
        """``dataclasses.field``, for a default that each value has for itself."""
        return _Factory(default_factory)

    def replace(value: Any, /, **changes: Any) -> Any:
        """``dataclasses.replace``."""
        fields = getattr(value, _DEFAULTS)
        return type(value)(**{name: getattr(value, name) for name in fields} | changes)

    def asdict(value: Any) -> Any:
        """``dataclasses.asdict``, but what is no container is the same and no copy."""
        if hasattr(value, _DEFAULTS):
            return {name: asdict(getattr(value, name)) for name in getattr(value, _DEFAULTS)}
        if isinstance(value, (list, tuple)):
            return type(value)(map(asdict, value))
        if isinstance(value, Mapping):
            return {asdict(key): asdict(each) for key, each in value.items()}
        return value


def field_names(cls: type) -> tuple[str, ...]:
    """The names of a dataclass's fields, in order."""
    return tuple(getattr(cls, _DEFAULTS))


_Class = TypeVar("_Class", bound=type)
_DEFAULTS = "__modulus_defaults__"
_FIELDS = "__dataclass_fields__"
"""Where ``dataclasses`` looks for what it has noted of a class."""


class _Factory:
    """Stands for a default until the class is made."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Fields:
    """What ``dataclasses`` has of a class, made when it looks."""

    def __get__(self, value: object, cls: type) -> Any:
        import dataclasses

        types: dict[str, Any] = {}
        for each in reversed(cls.__mro__):
            types |= getattr(each, "__annotations__", {})
        defaults: dict[str, Callable[[], Any] | None] = getattr(cls, _DEFAULTS)
        fields = [
            (
                name,
                types[name],
                dataclasses.field(default_factory=default) if default else dataclasses.field(),
            )
            for name, default in defaults.items()
        ]
        made = dataclasses.make_dataclass(
            cls.__name__,
            fields,
            init=False,
            repr=False,
            eq=False,
        )
        found = getattr(made, _FIELDS)
        setattr(cls, _FIELDS, found)
        return found


def _frozen(cls: _Class, methods: Mapping[str, Any]) -> _Class:
    own = vars(cls)
    defaults: dict[str, Callable[[], Any] | None] = dict(getattr(cls, _DEFAULTS, {}))
    for name, annotation in own.get("__annotations__", {}).items():
        if not annotation.startswith("ClassVar"):
            defaults[name] = _default(own[name]) if name in own else None
    for name in [name for name, value in own.items() if isinstance(value, _Factory)]:
        delattr(cls, name)
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    setattr(cls, _DEFAULTS, defaults)
    setattr(cls, _FIELDS, _Fields())
    return cls


def _default(value: Any) -> Callable[[], Any]:
    if isinstance(value, _Factory):
        return value.make
    if type(value).__hash__ is None:
        raise ValueError(f"a default that can change: {value!r}; use field(default_factory=)")
    return lambda: value


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


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, object], Any]:
    def method(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return compare(_values(self), _values(other))

    return method


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(_self: Any, name: str, _value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _compared(operator.eq),
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
_ORDER: dict[str, Any] = {
    f"__{name}__": _compared(getattr(operator, name)) for name in ("lt", "le", "gt", "ge")
}
