"""What techniques in the slot `mixer` build: a second predictor whose distribution is mixed with the model's."""

from __future__ import annotations

import numpy as np

from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.reader import Side


class Mixer:
    """Changes nothing; subclasses mix.

    All numbers of a target may depend on the tokens before it only. `mix` scores a whole text, `distribution` says what it
    would charge for every token in one place; the audit compares the two.
    """

    def begin(self, tokenizer: Tokenizer) -> None:
        """Called once, before anything is scored, for mixers that must know what tokens stand for."""

    def side(self, tokens: np.ndarray) -> Side | None:
        """What the reader is to find out at every target besides its nats, for a text of tokens (N,); None if nothing."""
        return None

    def mix(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Nats of the mixture: tokens (N,), the model's nats (N-1,), what `side` found (N-1,) -> (N-1,) float64."""
        return nats

    def distribution(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray, neural: np.ndarray) -> np.ndarray:
        """What the mixture charges for every token in the last place, as probabilities (V,) float64.

        Args:
            tokens: (N,), of which the last is not looked at.
            nats: (N-1,) of the model; the last is not looked at.
            side: (N-1,); likewise.
            neural: (V,) the model's own distribution for the last place.
        """
        return neural
