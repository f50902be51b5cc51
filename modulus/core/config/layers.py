"""How settings from many places become one set.

Layers, the lowest first: built in, ``/usr/share``, ``/etc`` (or ``--config``), environment,
``--set``. Within a layer later sources win (a drop-in over the main file), and what stands
under ``drivers.NAME`` wins over what stands outside of it; so a general value of a higher
layer beats a driver's own value of a lower one. Mappings are merged key by key, anything else
is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modulus.core.config.schema_types import MapOf, Problems, Record, Schema, join
from modulus.core.config.settings import DEFAULTS, GENERAL, RENAMED, Settings


@dataclass(frozen=True)
class SettingsSource:
    """The checked but unconverted settings of one file, the environment or ``--set``.

    ``renamed`` are the old names that were used.
    """

    origin: str
    value: Mapping[str, Any]
    renamed: tuple[str, ...] = ()


def merge(layers: Sequence[Sequence[SettingsSource]], driver: str | None) -> Settings:
    """The settings for ``driver``, or the general ones, from checked layers above DEFAULTS."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in ((SettingsSource("default", DEFAULTS),), *layers):
        for source in layer:
            _lay(GENERAL, source.value, source.origin, merged, origins)
        for source in layer:
            own = (source.value.get("drivers") or {}).get(driver)
            _lay(GENERAL, own, source.origin, merged, origins)
    typed = GENERAL.check(merged, "", Problems())
    values = dict(_flat(GENERAL, merged))
    return Settings(
        **typed,
        values=values,
        origins={key: origins.get(key, "default") for key in values},
        warnings=tuple(
            f"{source.origin}: {name} is called {RENAMED[name]} now; the old name will go"
            for layer in layers
            for source in layer
            for name in source.renamed
        ),
    )


def with_new_names(
    value: Mapping[str, Any], problems: Problems, key: str = ""
) -> tuple[dict[str, Any], set[str]]:
    """Unchecked settings by their present names, and the old names that were used."""
    found, old = dict(value), set[str]()
    for name in RENAMED.keys() & value.keys():
        if RENAMED[name] in value:
            problems.add(join(key, name), f"is called {RENAMED[name]} now, which is there too")
        old.add(name)
        found[RENAMED[name]] = found.pop(name)
    drivers = value.get("drivers")
    if isinstance(drivers, dict):
        found["drivers"] = dict(drivers)
        for driver, own in drivers.items():
            if isinstance(own, dict):
                found["drivers"][driver], more = with_new_names(
                    own, problems, f"drivers.{driver}"
                )
                old |= more
    return found, old


def place(schema: Schema | None, parts: Sequence[str], value: Any, separator: str) -> Any:
    """``value`` under the key that ``parts`` spell, as nested mappings.

    Names that the schema knows become lower case. Free names (a file's, a module's
    parameter) stay as they are; one that has nothing below it takes the rest of ``parts``.
    """
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(schema, MapOf):
        if not isinstance(schema.value, (MapOf, Record)):
            return {separator.join(parts): value}
        problems = Problems()
        schema.key.check(head, "", problems)
        name = head.lower() if problems else head
        return {name: place(schema.value, rest, value, separator)}
    if isinstance(schema, Record):
        return {head.lower(): place(schema.fields.get(head.lower()), rest, value, separator)}
    return {head: place(None, rest, value, separator)}


def _lay(
    schema: Record | MapOf,
    value: Mapping[str, Any] | None,
    origin: str,
    merged: dict[str, Any],
    origins: dict[str, str],
    prefix: str = "",
) -> None:
    """Puts ``value`` over ``merged``."""
    for name, item in (value or {}).items():
        key = join(prefix, name)
        child = schema.value if isinstance(schema, MapOf) else schema.fields.get(name)
        if isinstance(child, (MapOf, Record)):
            _lay(child, item, origin, merged.setdefault(name, {}), origins, key)
        elif child is not None:
            merged[name] = item
            origins[key] = origin


def _flat(schema: Schema, value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(schema, (MapOf, Record)) and value:
        for name, item in value.items():
            child = schema.value if isinstance(schema, MapOf) else schema.fields[name]
            yield from _flat(child, item, join(prefix, name))
    else:
        yield prefix, value
