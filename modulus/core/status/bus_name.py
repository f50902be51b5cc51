"""What an instance is called on the bus, in systemd's escaping."""

from __future__ import annotations

PREFIX = "org.modulus1"
INTERFACE = f"{PREFIX}.Agent"


def escape(text: str) -> str:
    """``text`` as one part of a name or path, as systemd's sd_bus_path_encode(3) does it.

    All but ASCII letters and digits become ``_`` and two hexadecimal digits, and so does a
    digit in the first place. Empty text becomes ``_``.
    """
    if not text:
        return "_"
    return "".join(
        chr(byte)
        if chr(byte).isalnum() and byte < 0x80 and (at or not chr(byte).isdigit())
        else f"_{byte:02x}"
        for at, byte in enumerate(text.encode("utf-8", "surrogateescape"))
    )


def agent_name(instance: str) -> str:
    """The bus name of the agent of ``instance``."""
    return f"{PREFIX}.{escape(instance)}"


def agent_path(instance: str) -> str:
    """The object path of the agent of ``instance``."""
    return f"/{PREFIX.replace('.', '/')}/{escape(instance)}"
