"""What a command prints: results on standard output, causes and hints on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from modulus.core.store.keys import SHORT, Difference
from modulus.errors import ModulusError, UsageError
from modulus.host.report.reporter import Reporter, printable
from modulus.redact import redact_text

if TYPE_CHECKING:
    from modulus.core.config.settings import Settings
    from modulus.core.findings import Finding
    from modulus.core.instance import Instance
    from modulus.pipeline.build.built import Built

_T = TypeVar("_T")


def show(value: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Prints a result, as JSON or as ``text`` for a person."""
    shown = json.dumps(value, indent=2) if as_json else text
    try:
        for line in shown.splitlines():
            print(printable(line), flush=True)
    except BrokenPipeError:
        # The reader went away, as head(1) does. The work goes on; its exit code counts.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_error(error: ModulusError, reporter: Reporter) -> None:
    """Prints one line of cause (per problem) and one of what to do next."""
    for line in error.message.splitlines():
        reporter.error(f"modulus: error: {line}")
    reporter.error(f"modulus: hint: {error.hint}")


def error_value(error: ModulusError) -> dict[str, object]:
    """``error`` as the contract's JSON."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def built_value(instance: Instance, built: Built) -> dict[str, Any]:
    """A build as the contract's JSON."""
    return {
        "instance": str(instance),
        "kernel": built.release,
        "key": built.entry.key,
        "hit": built.hit,
        "seconds": round(built.seconds, 1),
        "path": str(built.entry.path),
        "error": None,
    }


def settings_value(settings: Settings) -> dict[str, Any]:
    """Every setting with its value and where it came from."""
    return {
        key: {"value": _shown(value), "from": origin}
        for key, value, origin in settings.with_origins()
    }


def _shown(value: Any) -> Any:
    """``value`` without the passwords and tokens that URLs may hold."""
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    return redact_text(value) if isinstance(value, str) else value


def plan_text(plan: Mapping[str, Any], verbose: bool) -> str:
    """A plan as people read it; ``verbose`` adds every setting and its origin."""
    what = f"{plan['instance']} for {plan['kernel']}"
    lines = [f"hit: {what} ({plan['key'][:SHORT]})"] if plan["hit"] else []
    lines += [f"miss: {Difference(**miss)}" for miss in plan["miss"]]
    lines.append(f"flavour: {plan['flavour']} ({plan['flavour_reason']})")
    lines += [f"left out: {gpu['cause']} ({gpu['fix']})" for gpu in plan["dropped"]]
    if package := plan["package"]:
        lines.append(f"package: {package['sha256'][:SHORT]} (by {package['from']})")
    lines.append(f"key: {plan['key'] or 'unknown until provisioned'}")
    lines += [f"{step['phase']}: {step['what']} ({step['why']})" for step in plan["steps"]]
    if verbose:
        lines += [
            f"setting: {key} = {json.dumps(setting['value'])} (from {setting['from']})"
            for key, setting in plan["settings"].items()
        ]
    return "\n".join(lines)


def fits_text(fits: Sequence[Mapping[str, str]]) -> str:
    """A line for each driver and kernel; the compiler's word where it has refused."""
    lines = []
    for fit in fits:
        why = f": {fit['why']}" if fit["why"] else ""
        what = f"{fit['instance']}  {fit['flavour']}  {fit['kernel']}"
        lines.append(f"{what}  {fit['state']}{why}")
    return "\n".join(lines) or "nothing was built yet"


def findings_text(findings: Sequence[Finding], names: str) -> str:
    """What was found wrong with the drivers ``names``, as people read it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity}: {finding.message} ({finding.id}, {finding.level})")
        lines += [f"  cause: {finding.cause}", f"  fix:   {finding.fix}"]
    return "\n".join(lines or [f"ok: {names}" if names else "no driver is active"])


def entries_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """The store's entries, a line each."""
    return "\n".join(
        f"{entry['key'][:SHORT]}  {entry['state']:4}  {size_text(entry['size']):>9}  "
        f"{entry['instance'] or '-'} for {entry['kernel'] or '-'}"
        + (f", built again: {entry['proof']}" if entry["proof"] else "")
        + (", revoked" if entry["revoked"] else "")
        for entry in entries
    )


def provided_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Headers and toolchains, a line each."""
    return "\n".join(
        f"{entry['id'][:SHORT]}  {entry['state']:4}  {entry['kind']}"
        + (f": {entry['problem']}" if entry["problem"] else "")
        for entry in entries
    )


def size_text(size: float) -> str:
    """A size in bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def argument(name: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
    """The parsed value of an option, None where it was not given; UsageError for a bad one."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}", "see modulus cache gc -h") from None
