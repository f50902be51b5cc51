"""Our frozen dataclasses are the standard library's, but for how they are made."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import pytest

from modulus.core.dataclass import dataclass as ours


def make(decorate: Callable[..., Any]) -> Any:
    class One:
        """Has all that fields can have."""

        kind: ClassVar[str] = "one"
        a: str
        b: int = 1
        c: list[int] = dataclasses.field(default_factory=list)

        @cached_property
        def once(self) -> object:
            return object()

        def __str__(self) -> str:
            return f"<{self.a}>"

    One.__qualname__ = "One"
    return decorate(frozen=True)(One)


OURS, THEIRS = make(ours), make(dataclasses.dataclass)
BOTH = pytest.mark.parametrize("one", [OURS, THEIRS], ids=["ours", "theirs"])


@pytest.mark.parametrize(
    ("args", "given"),
    [(("x",), {}), (("x", 2, [3]), {}), ((), {"a": "x", "c": [1]}), (("x",), {"b": 5})],
)
def test_they_hold_the_same(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    mine, other = OURS(*args, **given), THEIRS(*args, **given)
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert repr(mine) == repr(other)
    assert str(mine) == "<x>"
    assert [each.name for each in dataclasses.fields(mine)] == ["a", "b", "c"]


@BOTH
def test_values_are_compared_and_a_default_is_ones_own(one: Any) -> None:
    assert one("x") == one("x", 1, [])
    assert one("x") != one("y")
    assert one("x") != ("x", 1, [])
    assert one("x").c is not one("x").c
    assert hash(one("x", 1, ())) == hash(one("x", 1, ()))
    with pytest.raises(TypeError):
        hash(one("x"))


@BOTH
def test_what_is_cached_is_no_part_of_a_value(one: Any) -> None:
    first, second = one("x"), one("x")
    assert first.once is first.once
    assert first == second
    assert repr(first) == repr(second)


@BOTH
def test_nothing_is_changed_but_a_changed_copy_is_made(one: Any) -> None:
    mine = one("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.a = "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del mine.a
    assert dataclasses.replace(mine, b=7) == one("x", 7)
    assert mine == one("x") == copy.deepcopy(mine)


@BOTH
@pytest.mark.parametrize(
    ("args", "given"),
    [((), {}), (("x", 1, [], 4), {}), (("x",), {"a": "y"}), (("x",), {"d": 1})],
    ids=["missing", "too many", "twice", "unknown"],
)
def test_wrong_values_are_refused(
    one: Any, args: tuple[Any, ...], given: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        one(*args, **given)


@ours(frozen=True)
class Base:
    first: int
    second: int = 2


@ours(frozen=True)
class Derived(Base):
    third: int = 3


def test_a_derived_class_adds_its_fields() -> None:
    assert Derived(1) == Derived(first=1, second=2, third=3)
    assert repr(Derived(1)) == "Derived(first=1, second=2, third=3)"
    assert Derived(1) != Base(1)
    assert pickle.loads(pickle.dumps(Derived(5))) == Derived(5)


def test_other_options_are_the_standard_librarys() -> None:
    @ours(frozen=True, order=True)
    class Ordered:
        a: int

    assert Ordered(1) < Ordered(2)
