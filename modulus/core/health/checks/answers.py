"""What the driver's libraries answered: whether they come up, and which GPUs work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from modulus.core.findings import Finding
from modulus.core.profile.libraries import Answer, Library, Reply, Status

_LOOK = "journalctl -k -b says what the driver said"


def check_answers(
    asked: Iterable[tuple[Library, Answer | None]], devices: Sequence[str], require_all: bool
) -> Iterator[Finding]:
    """What went wrong when the libraries were asked; one not installed has no answer.

    ``devices`` are the PCI addresses bound to the driver. A device that does not work is a
    warning while another works, an error with ``require_all``.
    """
    for library, answer in asked:
        if answer is None:
            if library.device:
                yield _absent(library)
            continue
        for reply in answer.replies:
            if reply.status and reply.device is None:
                known = _known(library, reply)
                yield Finding(
                    "library-call",
                    "usable",
                    known.severity,
                    f"{reply.function} of {library.name} says {_status(reply)}",
                    known.cause,
                    known.fix,
                )
        if answer.problem:
            yield Finding(
                "library-call",
                "usable",
                "error",
                f"{library.name} cannot be asked",
                answer.problem,
                _LOOK,
            )
        if library.device:
            yield from _devices(library, answer, devices, require_all)


def _absent(library: Library) -> Finding:
    return Finding(
        "library-absent",
        "usable",
        "info",
        "no GPU was asked whether it works",
        f"{library.name} is in none of the components that are installed",
        "add the component that has it to components in /etc/modulus/modulus.yaml",
    )


def _devices(
    library: Library, answer: Answer, devices: Sequence[str], require_all: bool
) -> Iterator[Finding]:
    replies = {reply.device: reply for reply in answer.replies}
    dead = [replies[device] for device in devices if device in replies]
    dead = [reply for reply in dead if reply.status]
    for reply in dead:
        known = _known(library, reply)
        yield Finding(
            "gpu-dead",
            "usable",
            "error" if require_all else "warning",
            f"GPU {reply.device} does not work: {reply.function} says {_status(reply)}",
            known.cause,
            known.fix,
        )
    if not devices:
        yield Finding(
            "no-gpu-usable",
            "usable",
            "error",
            "no GPU is bound to the driver",
            "there is none, another driver has it, or this driver gave it up",
            f"lspci -k says which driver has it, {_LOOK}",
        )
    elif len(dead) == len(devices):
        yield Finding(
            "no-gpu-usable",
            "usable",
            "error",
            "none of the GPUs works",
            f"{library.name} was asked for each of {', '.join(devices)}",
            _LOOK,
        )


def _known(library: Library, reply: Reply) -> Status:
    cause = reply.text or "what it means is not in the profile"
    unknown = Status(reply.status, cause, _LOOK, library.severity)
    return library.meaning(reply.status) or unknown


def _status(reply: Reply) -> str:
    return f"{reply.status} ({reply.text})" if reply.text else str(reply.status)
