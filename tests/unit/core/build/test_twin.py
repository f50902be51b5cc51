"""What is the same for two kernels, by text alone."""

from __future__ import annotations

import pytest

from modulus.core.build import twin
from tests.support.smallbuild import NEW, OLD, command


def test_the_family_is_all_of_the_key_but_kernel_and_headers() -> None:
    inputs = {"kernel": OLD, "headers": "1", "symvers": "2", "toolchain": "3"}
    family = twin.family(inputs, "a")
    assert family == twin.family({**inputs, "kernel": NEW, "headers": "x"}, "a")
    assert family != twin.family({**inputs, "toolchain": "4"}, "a")
    assert family != twin.family(inputs, "b")


@pytest.mark.parametrize(
    ("text", "only"),
    [
        (f"// {OLD}\nint x;\n", True),
        (f"  // {OLD}\n", True),
        (f"// {OLD}\nint x; // {OLD}\n", False),
        (f"// {OLD} \\\nint x;\n", False),
        (f'"{OLD}"\n', False),
        (f"// {OLD}\n\0", False),
    ],
)
def test_a_comment_is_a_line_that_is_nothing_else(text: str, only: bool) -> None:
    assert twin.only_in_comments(text.encode(), OLD) is only


def test_a_linked_object_has_no_list_of_what_was_read() -> None:
    assert twin.files_read("cmd_/build/m.o := ld -r -o m.o a.o\n") is None
    assert twin.files_read(command("a.o", "a.c", "x.h", "/y/z.h")) == (
        *("/build/a.c", "x.h", "/y/z.h"),
    )
