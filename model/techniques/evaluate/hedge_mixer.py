"""The model's distribution mixed with n-gram statistics of the text scored so far, by weights that follow their losses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from golflab.model.evaluation.mixing import Mixer
from golflab.model.evaluation.reader import Side
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

FIRST_WEIGHT = 2.0  # logarithm of the model's weight at the beginning; the other experts begin at 0
FULL_TEXT, SMALL_TEXT = 62_000_000, 200_000  # tokens that the challenge scores, and a run of a small body, about
TRIGRAM_BUCKETS, FOURGRAM_BUCKETS = 65_536, 32_768


@dataclass(frozen=True)
class HedgeMixer(Technique):
    """Predict Σₖ wₖ pₖ(y) with six experts: the model, 1- to 4-grams of the scored text, and the uniform distribution.

    An n-gram expert gives (c[context,y] + a) / (c[context] + a·V) with a = 0.1, 0.1, 0.01, 0.005 for n = 1…4, contexts of
    three and four hashed into 65,536 and 32,768 buckets: a distribution over all V tokens whatever the bucket holds.
    Counts are those of all finished chunks; until ``warm`` tokens are counted the model predicts alone. w = softmax of
    log-weights that begin at (2, 0, …) and fall by η·(mean nats of the expert) after every ``update`` targets, with
    η = rate/(1 + N/10,000) and N tokens counted.

    The published tables take 0.4 GB at V=1024 (fp32, all cells). Here the same counts are looked up in the sorted text:
    about 60 bytes a token and 2 µs a token on one core, whatever V is. Three things differ from #849: contexts reach across
    windows; weights follow scored positions only (there also the re-read ones); and a context of three or four tokens that
    was never seen predicts 1/V for every token, where #849 counts it as seen once and gives all tokens a/(1 + a·V), which sum
    to 0.91 and 0.84 at V = 1024.

    Attributes:
        entropy_expert: ``uniform`` is a sixth expert that is a distribution. ``as_published`` is #849's, which charges the
            model's entropy for whatever token comes: **not a probability** (mass V·exp(-H)); it exists to be measured,
            and the audit flags it.
        rate: learning rate of the weights.
        chunk: inputs between two updates of the counts.
        update: inputs between two updates of the weights.
        warm: tokens that are counted before mixing begins.
    """

    slot = "mixer"
    sources = ("#849", "#688", "arXiv cs/0209030 (hedging)")
    doubt = "All published gains (0.024 to 0.071 bpb) use an expert that is no probability distribution. Expect much less."

    entropy_expert: str = knob("uniform", choices=("uniform", "as_published"), faults=("as_published",))
    rate: float = knob(0.1, 0.001, 1.0, log=True)
    chunk: int = knob(32_768, 64, 262_144, log=True)
    update: int = knob(2_048, 64, 65_536, log=True)
    warm: int = knob(10_000, 0, 1_000_000)

    def build(self, shape: Shape, layer: int | None = None) -> Hedge:
        """Return what mixes a scored text."""
        return Hedge(self, shape.vocabulary)

    def rescale(self, old: Shape, new: Shape) -> HedgeMixer:
        """In a small body ``chunk`` and ``warm`` keep their share of the scored text, which is shorter; ``update`` stays.

        Weights move by η·(mean nats) an update, so that over N tokens they move by about rate·(10,000/update)·ln(1 + N/10,000)
        times a difference of losses: the text's length enters by its logarithm alone, and an ``update`` that shrank with the
        context would make weights jump to the one best expert. Measured at `nano`: docs/presets.md.
        """
        if new.context >= old.context:
            return self
        ratio = SMALL_TEXT / FULL_TEXT
        return dataclasses.replace(self, chunk=max(64, round(self.chunk * ratio)), warm=round(self.warm * ratio))


class Hedge(Mixer):
    """Mixes a whole text at once; every number depends only on earlier tokens, so the result is that of scoring token by token.

    Args:
        settings: the technique.
        vocabulary: V.
    """

    def __init__(self, settings: HedgeMixer, vocabulary: int) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.entropy = settings.entropy_expert == "as_published"

    def side(self, tokens: np.ndarray) -> Side | None:
        """The entropy of every neural prediction, where the sixth expert charges it."""
        return _entropy if self.entropy else None

    def mix(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Nats of the mixture: tokens (N,), neural nats (N-1,), neural entropies (N-1,) -> (N-1,) float64."""
        text = _Counted(tokens, self.settings.chunk)
        losses = self._losses(text, nats, side)  # (6, N-1)
        weights = self._weights(text, losses)  # (6, batches)
        which = np.arange(len(nats)) // self.settings.update
        mixed = -np.logaddexp.reduce(weights[:, which] - losses, axis=0)
        return np.where(text.counted < self.settings.warm, nats, mixed)

    def distribution(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray, neural: np.ndarray) -> np.ndarray:
        """What the mixture gives every token in the last place: (V,) float64.

        Args:
            tokens: (N,), of which the last is not looked at.
            nats: (N-1,) neural nats; the last is not looked at.
            side: (N-1,) neural entropies.
            neural: (V,) the model's own distribution for the last place.
        """
        text = _Counted(tokens, self.settings.chunk)
        last = len(nats) - 1
        if text.counted[last] < self.settings.warm:
            return neural
        weights = np.exp(self._weights(text, self._losses(text, nats, side))[:, last // self.settings.update])
        sixth = 1 / self.vocabulary
        if self.entropy:
            sixth = np.exp((neural * np.log(np.maximum(neural, 1e-300))).sum())  # e^-H: the same for every token
        grams = [(row + a) / (row.sum() + a * self.vocabulary) for row, a in text.rows(last, self.vocabulary)]
        return weights[0] * neural + sum(w * g for w, g in zip(weights[1:5], grams, strict=True)) + weights[5] * sixth

    def _losses(self, text: _Counted, nats: np.ndarray, entropy: np.ndarray) -> np.ndarray:
        """What every expert charges for the token that came: (6, N-1) nats."""
        grams = [np.log(total + a * self.vocabulary) - np.log(count + a) for count, total, a in text.counts(self.vocabulary)]
        sixth = entropy if self.entropy else np.full(len(nats), np.log(self.vocabulary))
        return np.stack([nats, *grams, sixth])

    def _weights(self, text: _Counted, losses: np.ndarray) -> np.ndarray:
        """Logarithms of the weights in every batch, normalised: (6, batches)."""
        starts = np.arange(0, losses.shape[1], self.settings.update)
        sizes = np.diff(np.append(starts, losses.shape[1]))
        means = np.add.reduceat(losses, starts, axis=1) / sizes
        counted = text.counted[starts]
        steps = np.where(counted < self.settings.warm, 0.0, self.settings.rate / (1 + counted / 10_000)) * means
        logs = np.zeros_like(steps)
        logs[0] = FIRST_WEIGHT
        logs[:, 1:] -= np.cumsum(steps, axis=1)[:, :-1]
        return logs - np.logaddexp.reduce(logs, axis=0)


def _entropy(logits: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats."""
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


class _Counted:
    """n-gram counts of a text as they stood at the beginning of every chunk.

    Args:
        tokens: (N,) ids.
        chunk: inputs between two updates.

    Attributes:
        counted: (N-1,) number of targets that had been counted when each input was scored.
    """

    def __init__(self, tokens: np.ndarray, chunk: int) -> None:
        ids = np.asarray(tokens, dtype=np.int64)
        self.targets, p1 = ids[1:], ids[:-1]
        p2, p3 = (np.concatenate([np.zeros(k, np.int64), p1])[: len(p1)] for k in (1, 2))
        self.counted = np.arange(len(p1)) // chunk * chunk
        trigram = ((36313 * p2) ^ (27191 * p1)) % TRIGRAM_BUCKETS
        fourgram = ((48271 * p3) ^ (36313 * p2) ^ (27191 * p1)) % FOURGRAM_BUCKETS
        self.contexts = ((np.zeros_like(p1), 0.1), (p1, 0.1), (trigram, 0.01), (fourgram, 0.005))

    def counts(self, vocabulary: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """For n = 1…4: how often each target, and each context, had been counted, and the smoothing a."""
        found = []
        for context, a in self.contexts:
            count = _earlier(context * vocabulary + self.targets, self.counted)
            found.append((count, _earlier(context, self.counted), a))
        return found

    def rows(self, at: int, vocabulary: int) -> list[tuple[np.ndarray, float]]:
        """For n = 1…4: the counts (V,) of everything that had followed input ``at``'s context, and the smoothing a."""
        seen = int(self.counted[at])
        found = []
        for context, a in self.contexts:
            followers = self.targets[:seen][context[:seen] == context[at]]
            found.append((np.bincount(followers, minlength=vocabulary), a))
        return found


def _earlier(keys: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many of the first ``limits[i]`` keys equal ``keys[i]``: (n,) int64. Sorts instead of keeping a table."""
    n = len(keys)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order] * n + order  # ascending: by key, then by place
    first = np.searchsorted(keys[order], keys[order], side="left")
    below = np.searchsorted(ordered, keys[order] * n + limits[order], side="left")
    counts = np.empty(n, dtype=np.int64)
    counts[order] = below - first
    return counts
