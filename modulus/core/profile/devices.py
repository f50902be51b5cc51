"""What may stand under ``nodes`` in a profile's file; no path leads out of /dev or /proc."""

from __future__ import annotations

import posixpath

from modulus.core.config.fields import MODULE_NAME
from modulus.core.config.schema_types import ListOf, Problems, Record, integer, text
from modulus.core.devices.proc_devices import MOST_MAJOR, MOST_MINOR
from modulus.core.devices.wanted import MINOR, Minors, NodeRule, Params, When

_NAME = r"[A-Za-z0-9_.+-]*"
_PATH = text(
    rf"(?:(?!char/)[A-Za-z0-9_]{_NAME}/)?(?=[A-Za-z0-9_{{]){_NAME}(?:\{{minor\}}{_NAME})?",
    "a name below /dev, or one in a folder there that is not char; {minor} may be in it",
)
_PART = r"(?!\.{1,2}(?:/|$))(?![^/]*\*\*)[^/\s\x00-\x1f\x7f]+"
_FILES = text(rf"{_PART}(?:/(?:{_PART}|\*\*))*", "a pattern of files below /proc")
_FILE = text(
    rf"(?!.*[*?\[]){_PART}(?:/{_PART})*", "the path of a file below /proc, without a pattern"
)
_FIELD = text(r"[A-Za-z0-9_](?:[A-Za-z0-9_ -]*[A-Za-z0-9_])?", "the name of a field")

NODE = Record(
    {
        "path": _PATH,
        "major": ListOf(
            text(r"[^\s\x00-\x1f\x7f]+", "a name of /proc/devices"), lone=True, least=1
        ),
        "default_major": integer(1, MOST_MAJOR, f"a number from 1 to {MOST_MAJOR}"),
        "module": MODULE_NAME,
        "minor": integer(0, MOST_MINOR, f"a number up to {MOST_MINOR}"),
        "minors": Record(
            {"files": ListOf(_FILES, lone=True, least=1), "field": _FIELD},
            ("files",),
            make=Minors,
        ),
        "mode": integer(0, 0o777, "a mode from 0 to 0777"),
        "params": Record(
            {"file": _FILE, **dict.fromkeys(("uid", "gid", "mode", "modify"), _FIELD)},
            make=Params,
        ),
        "when": Record({"file": _FILE, "field": _FIELD}, ("file", "field"), make=When),
    },
    ("path", "major"),
    make=NodeRule,
)


def check_nodes(rules: tuple[NodeRule, ...], problems: Problems) -> None:
    """Notes where the parts of a rule, or the rules, do not fit together."""
    folders = {posixpath.dirname(rule.path) for rule in rules}
    for index, rule in enumerate(rules):
        key = f"nodes[{index}]"
        numbered = MINOR in rule.path
        if numbered == (rule.minor is not None) or (rule.minors and not numbered):
            problems.add(key, f"needs a minor, or else {MINOR} in its path, and not both")
        if rule.default_major is not None and rule.module is None:
            problems.add(f"{key}.default_major", "needs module, which must be loaded for it")
        if rule.params and rule.params.file is None and rule.minors is None:
            problems.add(f"{key}.params", "needs a file, since there is none of minors")
        if rule.path in folders or rule.path in {other.path for other in rules[:index]}:
            problems.add(f"{key}.path", f"{rule.path} is another rule's too")
