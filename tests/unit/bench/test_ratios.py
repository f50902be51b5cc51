from __future__ import annotations

import pytest

from tests.bench.ratios import Cost, Result, Row, Spread, chosen, rounds, spread

TIMED = Row("first", "a build", "another", 0.5)
SIZED = Row("growth", "an entry", "a tarball", 0.1, "size")
TOLD = Row("make", "a build", "make", None)


def costs(*walls: float, cpu: float = 1.0) -> tuple[Cost, ...]:
    return tuple(Cost(wall, wall * cpu) for wall in walls)


def test_both_sides_of_a_pair_run_one_after_the_other() -> None:
    assert [*rounds("ab", 3)] == ["a", "b", "a", "b", "a", "b"]


def test_a_ratio_is_of_pairs_and_not_of_medians() -> None:
    result = Result(TIMED, costs(1, 2, 9), costs(2, 8, 3))
    assert result.ratio == Spread(0.5, 0.25, 3)


def test_one_outlier_does_not_move_the_median() -> None:
    result = Result(TIMED, costs(4, 4, 4, 4, 400), costs(10, 10, 10, 10, 10))
    assert result.ratio == Spread(0.4, 0.4, 40)
    assert result.met


@pytest.mark.parametrize(
    ("ours", "met"), [((5.0, 5.0, 9.0), True), ((5.1, 5.1, 1.0), False), ((0.1,), True)]
)
def test_a_bar_is_met_by_the_median_at_most(ours: tuple[float, ...], met: bool) -> None:
    assert Result(TIMED, costs(*ours), costs(*[10.0] * len(ours))).met is met


def test_what_has_no_bar_is_neither_met_nor_missed() -> None:
    assert Result(TOLD, costs(1), costs(2)).met is None


def test_cpu_and_floor_are_of_pairs_too() -> None:
    floor = (Cost(cpu=2), Cost(cpu=5))
    result = Result(TIMED, costs(1, 2, cpu=10), costs(2, 2, cpu=10), floor)
    assert result.cpu_ratio == Spread(0.75, 0.5, 1)
    assert result.above_floor == Spread(4.5, 4, 5)
    assert Result(TIMED, costs(1), costs(1)).above_floor is None


def test_sizes_are_compared_by_bytes_alone() -> None:
    result = Result(SIZED, (Cost(wall=9, size=5),), (Cost(wall=1, size=100),))
    assert result.ratio == Spread(0.05, 0.05, 0.05)
    assert result.cpu_ratio is None


def test_pairs_that_are_not_whole_are_no_result() -> None:
    with pytest.raises(ValueError, match="longer"):
        _ = Result(TIMED, costs(1), costs(1, 2)).ratio


def test_costs_add_up_and_come_apart() -> None:
    one, other = Cost(3, 5, 8), Cost(1, 2, 4)
    assert one + other == Cost(4, 7, 12)
    assert one - other == Cost(2, 3, 4)
    assert one / 2 == Cost(1.5, 2.5, 4)
    assert spread([2, 1, 4, 3]) == Spread(2.5, 1, 4)


def test_rows_are_chosen_by_name_or_by_what_is_before_a_hyphen() -> None:
    rows = [Row(name, "", "", 1) for name in ("unpack-zstd", "unpack-xz", "unpacked", "help")]
    assert [row.name for row in chosen(rows, ["unpack"])] == ["unpack-zstd", "unpack-xz"]
    assert [row.name for row in chosen(rows, ["help", "unpack-xz"])] == ["unpack-xz", "help"]
    assert chosen(rows, []) == tuple(rows)
    with pytest.raises(ValueError, match=r"^unp$"):
        chosen(rows, ["help", "unp"])
