"""What of a text may be shown or kept: no password, and no token of a URL.

Below all else, since every error and every line that is told goes through it.
"""

from __future__ import annotations

import re

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# A password with a "/" in it makes a URL no parser takes apart rightly; what stands before the
# last "@" goes then too.
_USER = re.compile(rf"^({_SCHEME})([^/]*@|[^/@:\[]*:(?!\d*([/?#]|$))[^@]*@)")
_URL = re.compile(rf"{_SCHEME}(?:(?!{_SCHEME})\S)*")
# As in what is no URL for want of a letter, or is only a part of one.
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
    """The colon, or bracket, behind a URL is the sentence's."""
    url = match[0].rstrip(_BEHIND)
    return redact(url) + match[0][len(url) :]
