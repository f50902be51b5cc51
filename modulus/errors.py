"""Every way Modulus can fail: an exit code, a cause and a next step.

The codes are part of the command line's contract (docs/reference.md). Only ``__main__``
turns one of these into an exit status; everything below raises.
"""

from __future__ import annotations

from modulus.redact import redact_text


class ModulusError(Exception):
    """A failure the user can act on.

    ``message`` is one line with the cause, ``hint`` one line with what to do next. Neither
    shows what is secret in a URL: they are told, logged and kept where anyone may read them.
    """

    code = 1

    def __init__(self, message: str, hint: str) -> None:
        self.message = redact_text(message)
        self.hint = redact_text(hint)
        super().__init__(self.message)


class UsageError(ModulusError):
    """The command line cannot be understood."""

    code = 2


class ConfigError(ModulusError):
    """Settings or a profile are wrong; ``message`` holds one line per problem."""

    code = 10


class FetchError(ModulusError):
    """A download could not be had from any source."""

    code = 11


class IntegrityError(ModulusError):
    """A checksum or signature does not hold, or an archive is hostile or damaged."""

    code = 12


class WrongBuildError(IntegrityError):
    """A build that was made by a shortcut is not what the vendor's own way makes."""


class ToolchainError(ModulusError):
    """Kernel headers, a compiler or a container to run it in cannot be had."""

    code = 13


class UnprovedError(ToolchainError):
    """A build cannot now be compared with what the vendor's own way makes."""


class BuildError(ModulusError):
    """The modules did not compile, or are not what the kernel would accept."""

    code = 14


class LastingBuildError(BuildError):
    """The compiler has refused the sources: the same build ends so again."""


class UnsupportedError(ModulusError):
    """This driver cannot work on this kernel or GPU."""

    code = 15


class RefusedError(ModulusError):
    """The kernel refuses the module, or its firmware cannot be put where it looks."""

    code = 16


class BusyError(ModulusError):
    """The driver is in use, or another version of it is loaded."""

    code = 17


class NoGpuError(ModulusError):
    """No GPU is here for this driver."""

    code = 18


class VerifyError(ModulusError):
    """Something about the active driver is wrong."""

    code = 19


class GpuFaultError(VerifyError):
    """A GPU that the driver is for does not answer or start; that passes, unlike a misfit."""


class LockedError(ModulusError):
    """Another process held a lock past ``--lock-timeout``, or a wait passed its limit."""

    code = 20


class FallbackError(ModulusError):
    """The driver that was asked for does not work, and one that did is in its place again."""

    code = 21
