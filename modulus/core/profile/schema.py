"""What may stand in a profile's file, and what must fit together there."""

from __future__ import annotations

import posixpath

from modulus.core.config.fields import (
    COMPONENTS,
    DRIVER_NAME,
    MODULE_NAME,
    OPTIONS,
    SHA256,
    url,
)
from modulus.core.config.schema_types import (
    BOOLEAN,
    ListOf,
    MapOf,
    Problems,
    Record,
    Scalar,
    choice,
    integer,
    text,
)
from modulus.core.pci import IdRange, PciMatch
from modulus.core.profile import libraries
from modulus.core.profile.build_causes import Cause
from modulus.core.profile.devices import NODE, check_nodes
from modulus.core.profile.fields import (
    CONFIG,
    COUNTER,
    FILE,
    FLAVOUR,
    ID,
    MAKE,
    NOTE,
    RANGE,
    REGEX,
    SENTENCE,
    SOURCE_DIR,
    TARGET_DIR,
    TYPE,
    URL,
    WORD,
    template,
)
from modulus.core.profile.load_causes import PROFILE_ERRORS, LoadCause
from modulus.core.profile.profile import (
    RECIPE_FILES,
    BuildFile,
    ComponentRule,
    Flags,
    Flavour,
    FlavourRule,
    GpuListFormat,
    Installer,
    Make,
    PackageSource,
    Patch,
    Profile,
    Remake,
    Vgpu,
)
from modulus.core.profile.progress import Work
from modulus.core.version import Range


def parse_profile(value: object, name: str, problems: Problems) -> Profile | None:
    """The profile ``name`` from its file's contents; None where a problem was noted."""
    before = len(problems)
    profile = SCHEMA.check(value, "", problems)
    if isinstance(profile, Profile):
        _check_whole(profile, name, problems)
    return profile if len(problems) == before else None


SCHEMA = Record(
    {
        "name": DRIVER_NAME,
        "sources": ListOf(
            Record(
                {
                    "url": url("https", "http", "file", "apt"),
                    "format": choice("run", "tar"),
                    "checksum_url": URL,
                },
                ("url", "format"),
                make=PackageSource,
            ),
        ),
        "sha256": MapOf(text(r"[0-9][0-9A-Za-z._]*", "a version"), SHA256),
        "pci": ListOf(
            Record(
                {"vendor": ID, "class": ID},
                ("vendor", "class"),
                make=lambda **ids: PciMatch(ids["vendor"], ids["class"]),
            )
        ),
        "requires_config": ListOf(CONFIG),
        "refuses_config": ListOf(CONFIG),
        "flavours": MapOf(
            FLAVOUR,
            Record(
                {"dir": ListOf(SOURCE_DIR, lone=True, least=1), "driver": RANGE},
                ("dir",),
                make=Flavour,
            ),
        ),
        "flavour_rules": ListOf(
            Record(
                {
                    "pci": ListOf(Scalar(IdRange.parse), lone=True, least=1),
                    "driver": RANGE,
                    "flavour": FLAVOUR,
                    "why": NOTE,
                    "instead": NOTE,
                },
                ("why",),
                make=FlavourRule,
            )
        ),
        "gpu_list": Record(
            {
                "path": FILE,
                **dict.fromkeys(("entries", "id", "name", "features", "legacy"), WORD),
                "flavours": MapOf(FLAVOUR, WORD),
            },
            ("path", "entries", "id", "name", "features", "legacy"),
            make=GpuListFormat,
        ),
        "build": ListOf(MODULE_NAME, least=1),
        "make": Record(
            {
                "targets": ListOf(
                    text(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", "a target"), lone=True, least=1
                ),
                "variables": MAKE,
                "batch": BOOLEAN,
            },
            ("targets",),
            make=Make,
        ),
        "load": ListOf(MODULE_NAME),
        "preload": ListOf(MODULE_NAME),
        "options": OPTIONS,
        "blacklist": ListOf(MODULE_NAME),
        "nodes": ListOf(NODE),
        "unload": ListOf(MODULE_NAME),
        "vgpu": Record(
            {"signature": text(r"[!-~]{1,32}", "up to 32 characters of ASCII")},
            ("signature",),
            make=Vgpu,
        ),
        "patches": ListOf(
            Record({"kernel": RANGE, "driver": RANGE, "file": FILE}, ("file",), make=Patch),
        ),
        "files": ListOf(
            Record(
                {"file": FILE, "append_to": FILE, "driver": RANGE, "shortcut": BOOLEAN},
                ("file",),
                make=BuildFile,
            ),
        ),
        "flags": ListOf(
            Record({"kernel": RANGE, "make": MAKE}, ("make",), make=Flags),
        ),
        "remake": Record({"harmless": ListOf(REGEX)}, ("harmless",), make=Remake),
        "work": ListOf(
            Record(
                {
                    "done": REGEX,
                    "count": COUNTER,
                    "files": ListOf(
                        template("a path within the sources; {module} may be in it", "module")
                    ),
                    "per_module": integer(0, 1000, "a number up to 1000"),
                    "weight": integer(1, 1000, "a number from 1 to 1000"),
                },
                ("done",),
                make=Work,
            )
        ),
        "causes": ListOf(
            Record(
                {"pattern": REGEX, "cause": SENTENCE, "remedy": SENTENCE},
                ("pattern", "cause", "remedy"),
                make=Cause,
            )
        ),
        "load_causes": ListOf(
            Record(
                {
                    "pattern": REGEX,
                    "cause": SENTENCE,
                    "remedy": SENTENCE,
                    "error": choice(*PROFILE_ERRORS),
                },
                ("pattern", "cause", "remedy"),
                make=LoadCause,
            )
        ),
        "components": MapOf(
            choice(*COMPONENTS),
            ListOf(
                Record(
                    {
                        "types": ListOf(TYPE, lone=True, least=1),
                        "names": ListOf(text(r"[^/\s\x00]+", "a pattern of file names")),
                    },
                    ("types",),
                    make=ComponentRule,
                )
            ),
        ),
        "installer": Record(
            {"manifest": FILE, "folders": MapOf(TYPE, TARGET_DIR)},
            ("manifest", "folders"),
            make=Installer,
        ),
        "libraries": libraries.SCHEMA,
    },
    ("name", "sources", "flavours", "build", "make", "load"),
    make=Profile,
)


def _check_whole(profile: Profile, name: str, problems: Problems) -> None:
    """Notes where the parts of the profile do not fit together."""
    if profile.name != name:
        problems.add("name", f"must be {name}, as the file is called, not {profile.name!r}")
    for module in profile.load:
        if module not in profile.build:
            problems.add("load", f"{module} is not among the modules to build")
    if profile.vgpu and not profile.pci:
        problems.add("vgpu", "needs pci, which says what the devices are")
    if not profile.flavours:
        problems.add("flavours", "must not be empty")
    _check_flavours(profile, problems)
    check_nodes(profile.nodes, problems)
    libraries.check_fit(profile.libraries, profile.build, bool(profile.pci), problems)
    for component, rules in profile.components.items():
        types = {kind for rule in rules for kind in rule.types}
        known = profile.installer.folders if profile.installer else {}
        for kind in sorted(types - set(known)):
            problems.add(f"components.{component}", f"{kind} has no entry in installer.folders")
    for index, patch in enumerate(profile.patches):
        if posixpath.splitext(patch.file)[1] not in (".patch", ".diff"):
            problems.add(f"patches[{index}].file", "must be called something.patch")
    taken = set(RECIPE_FILES)
    for index, file in enumerate(profile.files):
        name = posixpath.basename(file.file)
        if name in taken:
            problems.add(f"files[{index}].file", f"another file of the build is called {name}")
        taken.add(name)


def _check_flavours(profile: Profile, problems: Problems) -> None:
    for index, rule in enumerate(profile.flavour_rules):
        key = f"flavour_rules[{index}]"
        if rule.flavour is None and (not rule.pci or not rule.instead):
            problems.add(key, "needs a flavour, or else pci and instead")
        elif rule.flavour is not None and rule.flavour not in profile.flavours:
            problems.add(f"{key}.flavour", f"there is no flavour {rule.flavour}")
        if rule.pci and not profile.pci:
            problems.add(f"{key}.pci", "needs pci, which says whose ids these are")
    for flavour in profile.gpu_list.flavours if profile.gpu_list else ():
        if flavour not in profile.flavours:
            problems.add("gpu_list.flavours", f"there is no flavour {flavour}")
    defaults = [rule for rule in profile.flavour_rules if not rule.pci]
    if len(profile.flavours) > 1 and not any(rule.driver == Range() for rule in defaults):
        problems.add("flavour_rules", "the last must say which flavour any other version has")
