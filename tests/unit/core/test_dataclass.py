"""Our frozen dataclasses are the standard library's, but for how they are made."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import pytest

from modulus.core.dataclass import asdict, field, field_names, replace
from modulus.core.dataclass import dataclass as ours


def make(decorate: Callable[..., Any], field: Callable[..., Any]) -> Any:
    class One:
        """Has all that fields can have."""

        kind: ClassVar[str] = "one"
        a: str
        b: int = 1
        c: list[int] = field(default_factory=list)

        @cached_property
        def once(self) -> object:
            return object()

        def __str__(self) -> str:
            return f"<{self.a}>"

    One.__qualname__ = "One"
    return decorate(frozen=True)(One)


OURS, THEIRS = make(ours, field), make(dataclasses.dataclass, dataclasses.field)
BOTH = pytest.mark.parametrize("one", [OURS, THEIRS], ids=["ours", "theirs"])


@pytest.mark.parametrize(
    ("args", "given"),
    [(("x",), {}), (("x", 2, [3]), {}), ((), {"a": "x", "c": [1]}), (("x",), {"b": 5})],
)
def test_they_hold_the_same(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    mine, other = OURS(*args, **given), THEIRS(*args, **given)
    assert dataclasses.asdict(mine) == dataclasses.asdict(other) == asdict(mine)
    assert repr(mine) == repr(other)
    assert str(mine) == "<x>"
    assert [each.name for each in dataclasses.fields(mine)] == ["a", "b", "c"]
    assert field_names(OURS) == ("a", "b", "c")


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
    assert replace(OURS("x"), b=7) == OURS("x", 7)
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


def test_values_have_an_order_where_that_is_asked_for() -> None:
    @ours(frozen=True, order=True)
    class Ordered:
        a: int
        b: int = 0

    assert Ordered(1) < Ordered(1, 1) < Ordered(2)
    assert Ordered(2) >= Ordered(2) > Ordered(1, 9)
    with pytest.raises(TypeError):
        assert Ordered(1) < OURS("x")


def test_values_in_containers_become_dicts_too() -> None:
    outer = OURS("x", c={"all": [Base(1), (Base(2), "text")]})
    inner = {"all": [{"first": 1, "second": 2}, ({"first": 2, "second": 2}, "text")]}
    assert asdict(outer) == dataclasses.asdict(outer) == {"a": "x", "b": 1, "c": inner}


def test_a_default_that_can_change_is_refused() -> None:
    with pytest.raises(ValueError, match="default_factory"):

        @ours(frozen=True)
        class Shared:
            a: list[int] = []  # noqa: RUF012


def test_other_options_are_the_standard_librarys() -> None:
    @ours(frozen=True, slots=True)
    class Slotted:
        a: int

    assert Slotted.__slots__ == ("a",)


def test_they_are_made_without_the_standard_librarys() -> None:
    script = "import sys, modulus.core.profile.profile; assert 'dataclasses' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
