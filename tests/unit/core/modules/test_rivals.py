"""What becomes of a rival driver that has a GPU, as a decision."""

from __future__ import annotations

import pytest

from modulus.core.modules.in_use import ModuleUse, Process
from modulus.core.modules.rivals import (
    Framebuffer,
    Removal,
    Rival,
    decide,
    has_console,
    parse_framebuffers,
    users_first,
)

GPU, OTHER = "0000:00:05.0", "0000:00:09.0"
XORG = Process(812, "Xorg :0")


@pytest.mark.parametrize(
    ("rival", "force", "removal"),
    [
        # Loaded, and idle.
        (Rival("r", ModuleUse(0)), False, Removal(unload=True)),
        (Rival("r", ModuleUse(1)), False, Removal()),
        (Rival("r", ModuleUse(0), others=(OTHER,)), False, Removal()),
        (Rival("r", ModuleUse(1, ("user",))), False, Removal()),
        (Rival("r", None), False, Removal()),
        # Bound, and idle.
        (Rival("r", ModuleUse(0), (GPU,)), False, Removal(unbind=(GPU,), unload=True)),
        (Rival("r", None, (GPU,)), False, Removal(unbind=(GPU,))),
        (Rival("r", ModuleUse(0), (GPU,), (OTHER,)), False, Removal(unbind=(GPU,))),
        # In use.
        (
            Rival("r", ModuleUse(0), (GPU,), console=True),
            False,
            Removal(blocked="the console is on its framebuffer"),
        ),
        (
            Rival("r", ModuleUse(1), (GPU,), console=True, processes=(XORG,)),
            False,
            Removal(
                blocked="the console is on its framebuffer; in use by process 812 (Xorg :0)"
            ),
        ),
        (
            Rival("r", ModuleUse(1, ("user",)), (GPU,)),
            False,
            Removal(blocked="in use by module user"),
        ),
        (
            Rival("r", ModuleUse(2), (GPU,)),
            False,
            Removal(blocked="2 references to it from elsewhere"),
        ),
        # In use, and forced.
        (
            Rival("r", ModuleUse(1), (GPU,), console=True, processes=(XORG,)),
            True,
            Removal(free_console=True, unbind=(GPU,), unload=True),
        ),
        (Rival("r", ModuleUse(1, ("user",)), (GPU,)), True, Removal(unbind=(GPU,))),
        (Rival("r", ModuleUse(1)), True, Removal()),
    ],
)
def test_decisions(rival: Rival, force: bool, removal: Removal) -> None:
    assert decide(rival, force=force) == removal


@pytest.mark.parametrize(
    ("own", "every", "boot_vga", "bound", "found"),
    [
        ([0], {0}, False, True, True),
        ([0], {0}, False, False, False),
        ([1], {0, 1}, False, True, False),
        ([0, 2], {0, 1, 2}, False, True, True),
        ([1], {0, 1}, True, True, True),
        ([], {0}, False, True, False),
        ([], {0}, True, True, False),
        # No framebuffer can be seen at all.
        ([], set(), True, True, True),
        ([], set(), False, True, False),
    ],
)
def test_where_the_console_is(
    own: list[int], every: set[int], boot_vga: bool, bound: bool, found: bool
) -> None:
    buffers = [Framebuffer(number, boot_vga) for number in own]
    assert has_console(buffers, every, boot_vga=boot_vga, bound=bound) == found


def test_framebuffers() -> None:
    assert parse_framebuffers("0 EFI VGA\n12 rivaldrmfb\nbroken\n") == {
        0: "EFI VGA",
        12: "rivaldrmfb",
    }
    assert parse_framebuffers("") == {}


@pytest.mark.parametrize(
    ("modules", "order"),
    [
        ([("core", ["drm"]), ("drm", [])], ("drm", "core")),
        ([("a", []), ("b", [])], ("a", "b")),
        ([("a", ["b"]), ("b", ["c"]), ("c", ["other"])], ("c", "b", "a")),
        ([("a", ["b"]), ("b", ["a"])], ("a", "b")),
    ],
)
def test_users_come_first(modules: list[tuple[str, list[str]]], order: tuple[str, ...]) -> None:
    assert users_first(modules) == order
