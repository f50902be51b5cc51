"""Reads YAML as configuration wants it: keys as they are written, each once, plain values."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modulus.host.files.regular import read_bytes

if TYPE_CHECKING:
    from modulus.core.config.schema_types import Problems

_MOST_BYTES = 1 << 20
_MOST_VALUES = 20_000
_MOST_DIGITS = 40
_MOST_DEPTH = 50
"""More than any configuration has. libyaml's binding crashes on very deep nesting."""


def read_yaml(path: Path, problems: Problems) -> dict[str, Any] | None:
    """The mapping in the file ``path``; None where a problem was noted."""
    try:
        data = read_bytes(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        problems.add("", f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add("", f"line {line}: is not UTF-8 text")
        return None
    before = len(problems)
    value = parse_yaml(text, problems)
    if len(problems) > before:
        return None
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.add("", "must hold KEY: VALUE lines")
        return None
    return value


def parse_yaml(text: str, problems: Problems) -> Any:
    """The value that ``text`` spells; None where a problem was noted.

    Only mappings with text as keys, lists, text, numbers, truth values and null come out.
    """
    before = len(problems)
    value = _parse(text, problems)
    return None if len(problems) > before else value


def _parse(text: str, problems: Problems) -> Any:
    import yaml

    loader_class = _loader_class()
    loader = value = None
    try:
        excess = _excess(yaml.parse(text, Loader=loader_class))
        if excess:
            problems.add("", excess)
            return None
        loader = loader_class(text)
        loader.noted = []
        value = loader.get_single_data()
        for line, what in loader.noted:
            problems.add("", f"line {line}: {what}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problems.add("", where + (error.problem or error.context or "is not YAML"))
    except yaml.reader.ReaderError as error:
        # libyaml counts bytes.
        line = text.encode(errors="replace").count(b"\n", 0, error.position) + 1
        problems.add("", f"line {line}: a character that text does not have")
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        # Errors that PyYAML lets through where a tag or a number is nonsense.
        problems.add("", "is not YAML, or has a value that is none")
    finally:
        if loader is not None:
            loader.dispose()
    return value


def _excess(events: Iterable[Any]) -> str | None:
    """How a text goes beyond any configuration, or None; checked before a value is made.

    An alias counts as all that it stands for: a few lines can stand for billions of values.
    """
    import yaml

    sizes: dict[str, int] = {}
    open_sizes, anchors = [0], [""]
    for event in events:
        anchor: str = getattr(event, "anchor", None) or ""
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_sizes) > _MOST_DEPTH:
                return f"is nested more than {_MOST_DEPTH} deep"
            open_sizes.append(0)
            anchors.append(anchor)
            # This one is not whole yet; an earlier one of its name counts no more.
            sizes.pop(anchor, None)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = open_sizes.pop() + 1, anchors.pop()
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in sizes and anchor in anchors:
                return f"{anchor} is part of itself"
            # An unknown alias is reported where values are made.
            size, anchor = sizes.get(anchor, 1), ""
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        else:
            continue
        open_sizes[-1] += size
        if anchor:
            sizes[anchor] = size
        if open_sizes[-1] > _MOST_VALUES:
            return f"has more than {_MOST_VALUES} values"
    return None


@functools.cache
def _loader_class() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]  # which base is known only at run time
        """A safe loader that notes what would be lost or changed in silence."""

        noted: list[tuple[int, str]]

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for key, item in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    self.noted.append((line, "a key must be text"))
                    continue
                if key.value in found:
                    self.noted.append((line, f"{key.value} is there twice"))
                # As written: 550.40 is a version, not a number, and NO is not a truth value.
                found[key.value] = self.construct_object(item, deep=deep)
            return found

        def construct_number(self, node: Any) -> Any:
            """A number of few digits: the time to convert it grows with their square."""
            if len(node.value) > _MOST_DIGITS:
                self.noted.append((node.start_mark.line + 1, "a number that is too large"))
                return 0
            kind = node.tag.rpartition(":")[2]
            number = getattr(self, f"construct_yaml_{kind}")(node)
            if not math.isfinite(number):
                self.noted.append((node.start_mark.line + 1, "a number that is none"))
            return number

    plain = ("null", "bool", "int", "float", "str", "seq", "map")
    Loader.yaml_constructors = {
        tag: construct
        for tag, construct in base.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in plain
    }
    for kind in ("int", "float"):
        Loader.yaml_constructors[f"tag:yaml.org,2002:{kind}"] = Loader.construct_number
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if "timestamp" not in tag]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return Loader
