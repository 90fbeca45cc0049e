"""Text from elsewhere (a failure's reason, a file's name) on a terminal: shown as it is, and obeyed in nothing."""

from __future__ import annotations

import codecs
import re
from typing import Any

from rich.console import Console
from rich.text import Text

# What a terminal would act on instead of showing it: control characters, and those that turn the direction of writing.
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What to write where a terminal's encoding lacks a character; a question mark for all others.
_INSTEAD = {
    "–": "-", "—": "-", "−": "-", "…": "...", "·": ".", "×": "x", "≤": "<=", "≥": ">=", "±": "+-", "→": "->", "²": "^2",
    "“": '"', "”": '"', "‘": "'", "’": "'", "━": "-", "─": "-", "│": "|", "╸": "-", "╺": "-", "Σ": "sum", "√": "sqrt",
}  # fmt: skip


def plain(text: Any) -> str:
    """Text without anything that a terminal would act on: such characters are written as escapes (``\\x1b``)."""
    return _ACTED_ON.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def literal(text: Any, style: str = "") -> Text:
    """Text for a `rich` table or console that is shown as it is: brackets are no markup."""
    return Text(plain(text), style=style)


def say(console: Console, text: Any, style: str = "") -> None:
    """Print a line as it is, however long."""
    console.print(literal(text, style), soft_wrap=True)


class PlainConsole(Console):
    """A console to which every text is foreign: no markup, no emoji, no highlighting, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, and every cell of a table, comes through here."""
        return super().render_str(plain(text), **options)


def degrade(error: UnicodeError) -> tuple[str, int]:
    """Write something like a character that the terminal's encoding lacks: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_INSTEAD.get(c, "?") for c in error.object[error.start : error.end]), error.end


def write_what_can_be(*streams: Any) -> None:
    """Let streams degrade the characters that their encoding lacks, instead of failing."""
    codecs.register_error("golflab.degrade", degrade)
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="golflab.degrade")
