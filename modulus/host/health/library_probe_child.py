"""Calls a shared library's functions, as a program: ``library_probe`` runs it by its path.

A vendor's library may crash or hang its process, which must not be the caller's. This program
imports little, so that it starts in some 15 ms, and nothing of Modulus, so that it runs
wherever that lies. A fork of it makes the calls, and is left alone where a call hangs in the
kernel: then not even SIGKILL ends the fork, and nobody may wait for it.

The argument is JSON: ``{library, init, arguments, device, devices, text}`` as in
``core.profile.libraries``, and ``seconds``, the time limit. Standard output has a line of JSON
for each call that begins, ``{"calling": FUNCTION}``, and for each result, ``{function, device,
status, text}`` or ``{"problem": TEXT}``; then ``{"calling": null}`` unless the library ended
its process, and last ``{"ended": STATUS}``, negative for a signal and null for the time limit.
The library's own output goes nowhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any

# linux/prctl.h, linux/capability.h, linux/sched.h, linux/mount.h
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_CAP_SYS_MODULE = 16
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 0x20, 0x1000, 0x4000, 0x40000


def _main(request: dict[str, Any]) -> None:
    out = os.dup(1)
    worker = os.fork()
    if not worker:
        _ask(request, out)
        _say(out, calling=None)
        # Skip the library's own clean-up, which could crash or hang after all answers.
        os._exit(0)
    ended, _, _ = select.select([os.pidfd_open(worker)], [], [], request["seconds"])
    if ended:
        _say(out, ended=os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
    else:
        os.kill(worker, signal.SIGKILL)
        _say(out, ended=None)


def _ask(request: dict[str, Any], out: int) -> None:
    def call(function: str, *arguments: object, device: str | None = None) -> int:
        _say(out, calling=function)
        status = int(getattr(library, function)(*arguments))
        text = _text(library, request["text"], status) if status else ""
        _say(out, function=function, device=device, status=status, text=text)
        return status

    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    _only_look(libc)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    _say(out, calling="dlopen")
    try:
        library = ctypes.CDLL(request["library"])
        numbers = [ctypes.c_uint(number) for number in request["arguments"]]
        if call(request["init"], *numbers) == 0 and request["device"]:
            for address in request["devices"]:
                handle = ctypes.byref(ctypes.c_void_p())
                name = ctypes.c_char_p(address.encode())
                call(request["device"], name, handle, device=address)
    # AttributeError: the library has no such function; the text of both is the linker's.
    except (OSError, AttributeError) as error:
        _say(out, problem=str(error))


def _only_look(libc: Any) -> None:
    """Keeps a library from loading modules and making device nodes, itself or by a setuid
    program, as far as this process may."""
    zero = ctypes.c_ulong(0)
    libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(_CAP_SYS_MODULE), zero, zero, zero)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
    if libc.unshare(_CLONE_NEWNS) == 0:
        for path, flags in (
            (b"/", _MS_REC | _MS_PRIVATE),
            (b"/dev", _MS_BIND | _MS_REMOUNT | _MS_RDONLY),
        ):
            # Device nodes can still be opened for writing.
            if libc.mount(None, path, None, ctypes.c_ulong(flags), None):
                return


def _text(library: Any, function: str | None, status: int) -> str:
    if function is None:
        return ""
    words = getattr(library, function)
    words.restype = ctypes.c_char_p
    return (words(ctypes.c_int(status)) or b"").decode("utf-8", "replace")


def _say(out: int, **line: object) -> None:
    os.write(out, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
