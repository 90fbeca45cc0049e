"""Untrusted text (an error message, a file name) on a terminal: control characters are escaped."""

from __future__ import annotations

import codecs
import re
from typing import Any

from rich.console import Console
from rich.text import Text

# Characters that a terminal interprets instead of showing: control characters, and those that change the text direction.
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Replacements for characters that the terminal's encoding lacks; all others become a question mark.
_INSTEAD = {
    "–": "-", "—": "-", "−": "-", "…": "...", "·": ".", "×": "x", "≤": "<=", "≥": ">=", "±": "+-", "→": "->", "²": "^2",
    "“": '"', "”": '"', "‘": "'", "’": "'", "━": "-", "─": "-", "│": "|", "╸": "-", "╺": "-", "Σ": "sum", "√": "sqrt",
}  # fmt: skip


def plain(text: Any) -> str:
    """Text in which characters that a terminal would interpret are written as escapes (``\\x1b``)."""
    return _ACTED_ON.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def literal(text: Any, style: str = "") -> Text:
    """Text for a `rich` table or console that is shown literally: brackets are no markup."""
    return Text(plain(text), style=style)


def say(console: Console, text: Any, style: str = "") -> None:
    """Print a line literally, without wrapping it."""
    console.print(literal(text, style), soft_wrap=True)


class PlainConsole(Console):
    """A console that prints all text literally: no markup, no emoji, no highlighting, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by `rich` for every printed text and every cell of a table."""
        return super().render_str(plain(text), **options)


def degrade(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the terminal's encoding lacks: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_INSTEAD.get(c, "?") for c in error.object[error.start : error.end]), error.end


def write_what_can_be(*streams: Any) -> None:
    """Let streams replace characters that their encoding lacks, instead of failing."""
    codecs.register_error("golflab.degrade", degrade)
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="golflab.degrade")
