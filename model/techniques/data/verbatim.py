"""Text as it is: what `caseops` is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.data.rewriting import Rewriting
from golflab.model.shape import Shape
from golflab.model.technique import Technique


def same(text: str) -> str:
    """The text itself."""
    return text


@dataclass(frozen=True)
class Verbatim(Technique):
    """Keeps text as it is: the tokenizer normalises no character and folds no white space.

    Without it the tokenizer has the challenge's settings: compatibility characters are normalised (NFKC), line ends become
    spaces, and white space is folded. Then bits per byte are by the bytes of what is left. With it they are by the bytes of
    the original text, as with `caseops`; so the two count the same bytes, document by document.
    """

    slot = "text"
    sources = ("sentencepiece, normalization_rule_name=identity", "the control of PR #1729's CaseOps")
    doubt = "Its bits per byte do not compare with those of plain text, which has fewer bytes and no line ends."

    def build(self, shape: Shape, layer: int | None = None) -> Rewriting:
        """Return that nothing is rewritten."""
        return Rewriting(str(self), __name__, same, same)
