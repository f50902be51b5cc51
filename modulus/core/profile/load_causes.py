"""Why a module was not loaded: known causes in the kernel's log and modprobe's output.

What is special to a driver comes from its profile as more ``LoadCause``s, which rank before
these. Sources: ``kernel/module/{main,signing,version}.c``, ``kernel/params.c`` and
``security/lockdown/lockdown.c`` of the kernel, ``tools/modprobe.c`` of kmod.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modulus.core.findings import Finding
from modulus.core.kernel.moddep import module_name
from modulus.errors import (
    BuildError,
    BusyError,
    ConfigError,
    GpuFaultError,
    ModulusError,
    NoGpuError,
    RefusedError,
    UnsupportedError,
)

ERRORS: Mapping[str, type[ModulusError]] = {
    "options": ConfigError,
    "retry": BuildError,
    "unsupported": UnsupportedError,
    "refused": RefusedError,
    "busy": BusyError,
    "no-gpu": NoGpuError,
    "gpu-fault": GpuFaultError,
}
"""The error of a cause, by the word in ``LoadCause.error``."""

PROFILE_ERRORS = ("unsupported", "refused", "busy", "no-gpu", "gpu-fault")
"""The words of ERRORS that a profile may name."""

_MOST_FINDINGS = 20
_LINE_LENGTH = 300


@dataclass(frozen=True)
class LoadCause:
    """A known cause: the regular expression that finds it in a line, and what to do.

    ``{release}`` in ``cause`` and ``remedy`` is the kernel's. A cause without ``error`` keeps
    no module out; its line is only worth knowing.
    """

    pattern: str
    cause: str
    remedy: str
    error: str | None = None


_SIGN = (
    "sign the modules with a key that the kernel trusts, or turn off Secure Boot in the "
    "node's firmware setup"
)
_OTHER_BUILD = (
    "run modulus cache verify, then modulus up again; a module of the node's own that does "
    "not fit means that its kernel package is damaged"
)
_SEE_OPTIONS = "correct the module's entry in module_options, or in options of the profile"

CAUSES = (
    LoadCause(
        r"Key was rejected by service|Required key not available"
        r"|[Ll]oading of (unsigned module|module with (un\w+) \w+) is rejected"
        r"|module verification failed: .*rejected",
        "the kernel takes only modules that are signed with a key it trusts",
        _SIGN,
        "refused",
    ),
    LoadCause(
        r"Lockdown: .*unsigned module loading is restricted",
        "the kernel is locked down and takes only signed modules",
        _SIGN,
        "refused",
    ),
    LoadCause(
        r"[Mm]odule \S+ is blacklisted",
        "module_blacklist of the kernel's command line keeps the module out",
        "take it off the kernel's command line (module_blacklist=) and reboot",
        "refused",
    ),
    LoadCause(
        r"version magic '.*' should be '|Invalid module format|Exec format error"
        r"|section size must match the kernel's built struct module size",
        "the module was built for another kernel than {release}, the one that runs",
        _OTHER_BUILD,
        "refused",
    ),
    LoadCause(
        r"disagrees about version of symbol|no symbol version for |wrong symbol version",
        "the module was built against another kernel, or module, than the ones that run",
        _OTHER_BUILD,
        "refused",
    ),
    LoadCause(
        r"exports duplicate symbol",
        "a module of another name with the same symbols is loaded",
        "unload it, or remove the other driver and reboot",
        "busy",
    ),
    LoadCause(
        r"Unknown symbol \S+ \(err|Unknown symbol in module(?!,)",
        "the module needs symbols that nothing in kernel {release} provides",
        _OTHER_BUILD,
        "refused",
    ),
    LoadCause(
        r"' invalid for parameter `",
        "the module refuses the value of an option",
        _SEE_OPTIONS,
        "options",
    ),
    LoadCause(
        r"Missing ENDBR",
        "the module lacks what this kernel's control-flow protection (IBT) needs",
        "use a newer version of the driver, or boot with ibt=off",
        "unsupported",
    ),
    LoadCause(
        r"(kernel BUG at |BUG: (unable to handle|kernel NULL)|Oops: |general protection fault)",
        "the kernel crashed while the module started",
        "reboot, and choose a driver version that supports kernel {release}",
        "unsupported",
    ),
    LoadCause(
        r"Cannot allocate memory|allocation failure|[Oo]ut of memory",
        "the kernel has too little memory for the module",
        "free some memory and run it again",
        "retry",
    ),
    LoadCause(
        r"Device or resource busy",
        "another driver has the device",
        "unbind the other driver, or unload it, and run it again",
        "busy",
    ),
    LoadCause(
        r"Operation not permitted",
        "this process may not load modules: kernel.modules_disabled is set, or it lacks "
        "CAP_SYS_MODULE",
        "run it as root on the node itself; modules_disabled stays until a reboot",
        "refused",
    ),
    LoadCause(
        r"No such device",
        "the module found no device it can drive",
        "check with lspci that the node has one, and that no other driver is bound to it",
        "no-gpu",
    ),
)
"""Known causes for any module, the surest first."""

_IGNORED_OPTION = LoadCause(
    r"unknown parameter '\S+' ignored",
    "the driver does not have an option that is set for it",
    _SEE_OPTIONS,
)


def explain(
    module: str,
    release: str,
    log: Sequence[str],
    said: str,
    causes: Sequence[LoadCause] = (),
) -> ModulusError:
    """The error for ``module``, which was not loaded into kernel ``release``.

    ``log`` are the kernel's messages meanwhile, ``said`` is modprobe's output, ``causes`` are
    the profile's. The surest cause counts, wherever it stands, with its first line.
    """
    lines = (*log, *said.splitlines())
    for known in (*causes, *CAUSES):
        if known.error is None:
            continue
        for line in lines:
            if re.search(known.pattern, line):
                return ERRORS[known.error](
                    f"{module} was not loaded: {_text(known.cause, release)}: {_cut(line)}",
                    _text(known.remedy, release),
                )
    kernel = module_name(module)
    own = [line for line in log if line.startswith((f"{kernel}:", f"{module}:"))]
    why = [*own[-1:], *said.strip().splitlines()[-1:], *log[-1:], "modprobe does not say why"]
    return RefusedError(
        f"{module} was not loaded: {_cut(why[0])}",
        "read what the kernel says about it: journalctl -k -b, or dmesg",
    )


def log_findings(
    log: Iterable[str],
    modules: Iterable[str],
    release: str,
    causes: Sequence[LoadCause] = (),
) -> tuple[Finding, ...]:
    """What is worth knowing in the kernel's messages even if all ``modules`` were loaded.

    A line counts if it matches one of the profile's ``causes``, such as an unsupported GPU
    beside one that works, or tells of an option that its module does not know.
    """
    names = tuple(f"{module_name(name)}: " for name in modules)
    found: dict[str, Finding] = {}
    for line in log:
        for known in (*causes, _IGNORED_OPTION):
            if known is _IGNORED_OPTION and not line.startswith(names):
                continue
            if re.search(known.pattern, line):
                found.setdefault(line, _finding(known, line, release))
                break
    return tuple(found.values())[:_MOST_FINDINGS]


def _finding(known: LoadCause, line: str, release: str) -> Finding:
    # The state that a GPU is in is not the driver's: its line is one of many.
    kind = "warning" if known.error in (None, "gpu-fault") else known.error
    return Finding(
        id=f"kernel-log-{kind}",
        level="usable",
        severity="warning",
        message=_cut(line),
        cause=_text(known.cause, release),
        fix=_text(known.remedy, release),
    )


def _text(template: str, release: str) -> str:
    return template.replace("{release}", release)


def _cut(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LINE_LENGTH else line[: _LINE_LENGTH - 1] + "…"
