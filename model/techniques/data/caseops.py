"""CaseOps: capital letters become markers, so that a word has one spelling. Nothing is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from golflab.model.data.rewriting import FUSED_AT, MARKERS_AT, SPACE_AT, Rewriting
from golflab.model.data.shards import FUSED
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

TITLE, ALLCAPS, CAPNEXT, ESC = MARKERS = "\ue001\ue002\ue003\ue004"
OF_SPACE, OF_MARKER = 0.4, 0.6  # shares in a fused row's start
LEAST = 4 + len(MARKERS) + 256 + 1  # control ids, markers, bytes and the space

# A word's part from its first capital on, behind small letters; a word that begins with a capital; a marker.
_SOURCE = re.compile(f"(?P<later>(?<=[a-z])[A-Z][A-Za-z]*)|[A-Z][A-Za-z]*|(?P<marker>[{MARKERS}])")
_WRITTEN = re.compile(f"{ESC}([{MARKERS}]?)|{ALLCAPS}([a-z]*)|[{TITLE}{CAPNEXT}]([a-z]?)")


def write(text: str) -> str:
    """Text with its capital letters as markers."""
    return _SOURCE.sub(_write_word, text)


def _write_word(found: re.Match[str]) -> str:
    if found["marker"]:
        return ESC + found[0]
    if found["later"]:
        return _marked(found[0])
    if len(found[0]) > 1 and found[0].isupper():
        return ALLCAPS + found[0].lower()
    return TITLE + found[0][0].lower() + _marked(found[0][1:])


def _marked(letters: str) -> str:
    return "".join(CAPNEXT + letter.lower() if letter.isupper() else letter for letter in letters)


def read(text: str) -> str:
    """Undo `write`. A marker in front of nothing that it could mean is silent."""
    return _WRITTEN.sub(lambda found: found[1] or (found[2] or found[3] or "").upper(), text)


@dataclass(frozen=True)
class Caseops(Technique):
    """Writes words in lower case, with a marker in front that says how they were capitalised.

    A word is a maximal run of ASCII letters. ALLCAPS in front of a word of two letters or more that are all capital; TITLE in
    front of one that begins with a capital; CAPNEXT in front of every other capital letter. A marker that stands in the text
    itself is preceded by ESC. The markers are U+E001 … U+E004, each one token of a BPE that is trained on the rewritten
    text; the vocabulary keeps its size.

    The tokenizer keeps text as it is: no character is normalised, no white space folded. Every target stands for bytes of the
    original text; markers and BOS stand for none. So bits per byte are by the bytes of the original text, all of them.

    ``fusion``: a space alone and a TITLE, ALLCAPS or CAPNEXT behind it are one token. It takes the id of a byte that no
    UTF-8 text holds (0xC0, 0xC1, 0xF5), and its row of the token table starts as 0.4·E[space] + 0.6·E[marker].

    Attributes:
        fusion: whether space and marker are fused.
    """

    slot = "text"
    sources = ("PR #1729", "PR #1736", "PR #2109, marker fusion")
    doubt = (
        "Plain text is normalised (compatibility characters, white space) and so has fewer bytes: compare with `verbatim`, "
        "which counts the same bytes. Published, with a weight-decay taper: 1.07193 → 1.06780, three seeds; fusion alone "
        "-0.0025, three seeds, repeated by nobody. A fused CAPNEXT never occurs, as it stands within words."
    )

    instead = "verbatim"

    fusion: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Rewriting:
        """Return how text is rewritten."""
        return Rewriting(str(self), __name__, write, read, MARKERS, len(FUSED) if self.fusion else 0)

    def check(self, recipe: Recipe) -> str | None:
        """Refuse a vocabulary without room for the markers, the bytes and the space."""
        if recipe.shape.vocabulary < LEAST:
            return f"vocabulary={recipe.shape.vocabulary} has no room for its markers and all bytes; take {LEAST} or more."
        return None

    def start_table(self, table: Tensor) -> Tensor:
        """The token table (V,D) at the start: fused rows are mixed from their parts'."""
        table = table.clone()
        for k in range(len(FUSED) if self.fusion else 0):  # an escape behind a space is too rare for a token of its own
            table[FUSED_AT + k] = OF_SPACE * table[SPACE_AT] + OF_MARKER * table[MARKERS_AT + k]
        return table
