"""How far a step is, in words and as a bar."""

from __future__ import annotations

from dataclasses import dataclass

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Count:
    """How far a step is: ``done`` of ``total`` (0: unknown); ``unit`` "B" or "" (things)."""

    phase: str
    done: int
    total: int
    unit: str = ""

    def continues(self, earlier: Count) -> bool:
        """Whether this is the same thing as ``earlier``, further on."""
        same = (self.phase, self.unit) == (earlier.phase, earlier.unit)
        return same and self.done >= earlier.done


def seconds_left(first: Count, now: Count, spent: float) -> float | None:
    """The seconds that the rest takes at the pace since ``first``; None while that is a guess.

    ``first`` need not be zero: a resumed download starts in the middle.
    """
    if spent < 1 or not first.done < now.done < now.total:
        return None
    return spent * (now.total - now.done) / (now.done - first.done)


def progress_text(count: Count, left: float | None) -> str:
    """One progress line, such as ``build: 43 % (131/304), 0:52 left``."""
    done, total = count.done, count.total
    scale, suffix = (1e6, " MB") if count.unit == "B" else (1, "")
    digits = 1 if count.unit == "B" and max(done, total) < 10e6 else 0
    if not total:
        return f"{count.phase}: {done / scale:.{digits}f}{suffix}"
    shown = f"{done / scale:.{digits}f}/{total / scale:.{digits}f}{suffix}"
    text = f"{count.phase}: {100 * done // total} % ({shown})"
    return text if left is None else f"{text}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bar(count: Count, cells: int, *, blocks: bool) -> str:
    """A bar ``cells`` wide between its ends, in eighths of a cell or in plain ASCII."""
    if not blocks:
        return f"[{'#' * (cells * count.done // count.total):{cells}}]"
    full, eighths = divmod(8 * cells * count.done // count.total, 8)
    return f"▕{'█' * full + _EIGHTHS[eighths]:{cells}.{cells}}▏"
