"""Redacts texts for showing and keeping: no password, and no token of a URL.

It is below all other modules, since every error and every reported line goes through it.
"""

from __future__ import annotations

import re

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# No parser rightly takes apart a URL with a "/" in its password; all before the last "@" goes
# then too.
_USER = re.compile(rf"^({_SCHEME})([^/]*@|[^/@:\[]*:(?!\d*([/?#]|$))[^@]*@)")
_URL = re.compile(rf"{_SCHEME}(?:(?!{_SCHEME})\S)*")
# For text that lacks a letter to be a URL, or is only a part of one.
_BARE_USER = re.compile(r"[^\s/:@'\"=(]+:(?!//|\d+[/?#])[^\s@]+@(?=\S)")
_BARE_QUERY = re.compile(r"\?[^\s=?]+=\S*")
_BEHIND = ":;,.)]}'\""


def redact(url: str) -> str:
    """``url`` without user, password and query (signed tokens)."""
    bare, query, _ = _USER.sub(r"\1***@", url).partition("?")
    return bare + "?***" if query else bare


def redact_text(text: str) -> str:
    """``text`` with every URL in it, and what looks like a part of one, redacted."""
    if "@" not in text and "?" not in text:
        return text
    text = _URL.sub(_redacted, text)
    return _BARE_QUERY.sub("?***", _BARE_USER.sub("***@", text))


def _redacted(match: re.Match[str]) -> str:
    """Redacts a URL; a colon or bracket behind it is the sentence's."""
    url = match[0].rstrip(_BEHIND)
    return redact(url) + match[0][len(url) :]
