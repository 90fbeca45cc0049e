"""The model's distribution over bytes mixed with that of a byte predictor, token by token, as one distribution over tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.mixing import Mixer
from golflab.model.evaluation.ppm import Ppm, Spellings
from golflab.model.evaluation.reader import Side
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class ByteMixer(Technique):
    """Mix the model with a byte predictor that has read the scored text, at every byte of every token.

    A token is spelled byte by byte, then it ends. Behind its bytes s, M(s) is the model's mass of all tokens that begin
    with s, and Q(s) that of the tokens spelled by exactly s; s continues with byte b with the model's probability
    M(sb)/M(s) and ends with Q(s)/M(s). The byte predictor (`golflab.model.evaluation.ppm.Ppm`) gives b the probability r(b),
    normalised over the bytes that continue any token here. It says nothing of ends. Mixed, s continues with b with

        (1 − λ)·M(sb)/M(s) + λ·(1 − Q(s)/M(s))·r(b),

    and what ends is one of the tokens spelled like that, by the model's own ratio. At every node this sums to one. So do the
    products along the paths to all tokens: a distribution over tokens for any λ that is fixed before the byte is known. λ is
    ``sure`` where the byte predictor's largest probability exceeds ``confidence``, else ``unsure``. It learns a token's bytes
    when the token has been scored. A space that begins a token counts as a byte of its spelling, also where the text has none.

    Attributes:
        form: ``marginal`` is as above. ``spread`` is the form of the published entries: each of a token's k bytes is given
            the model's p(token)^(1/k), mixed with the byte predictor's probability. Those are no probabilities: the masses of
            all tokens do not sum to one. It exists to be measured, and the audit flags it.
        order: longest context of the byte predictor, in bytes.
        unsure: λ.
        sure: λ where the byte predictor is confident.
        confidence: where it is.
    """

    slot = "mixer"
    sources = ("#1785", "#1881", "#1991", "#2039 (form=spread: their fault)", "Howard 1993 (PPM, method D)")
    doubt = (
        "Published gains of 0.09 to 0.14 bpb are those of numbers that are no probabilities; the maintainers excluded them. "
        "What the proper form is worth is an open question. About 60 µs a byte on one core: for samples, not for all text."
    )

    form: str = knob("marginal", choices=("marginal", "spread"), faults=("spread",))
    order: int = knob(5, 0, 8)
    unsure: float = knob(0.1, 0.0, 0.95)
    sure: float = knob(0.95, 0.0, 0.99)
    confidence: float = knob(0.9, 0.1, 0.99)

    def build(self, shape: Shape, layer: int | None = None) -> Mixer:
        """Return what mixes a scored text."""
        return _Bytewise(self)

    def canonical(self, recipe: Recipe) -> Technique:
        """With one λ for all bytes there is no confidence."""
        return self._without("confidence") if self.sure == self.unsure else self


class _Bytewise(Mixer):
    """Reads the text with the byte predictor first; the reader then mixes where the logits are."""

    def __init__(self, settings: ByteMixer) -> None:
        self.settings = settings

    def begin(self, tokenizer: Tokenizer) -> None:
        """Sort the tokens by their spelling."""
        self.tree = Spellings(tokenizer.spelling())
        size = self.tree.longest
        self.edges = np.zeros((len(self.tree.order), size + 1, 3), dtype=np.int64)  # nodes on the path to every token
        self.lengths = np.array([len(text) for text in self.tree.spelling])
        for token, text in enumerate(self.tree.spelling):
            for at in range(size + 1):
                self.edges[token, at] = self.tree.nodes[text[: min(at, len(text))]]

    def side(self, tokens: np.ndarray) -> Side:
        """Nats of the mixture at every input, as far as the text had been read."""
        ratio, chance, weight = self._read(np.asarray(tokens, dtype=np.int64))
        order, edges = torch.from_numpy(self.tree.order), torch.from_numpy(self.edges)
        lengths = torch.from_numpy(self.lengths)

        def find(logits: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            p, targets = logits.detach().double().softmax(-1).cpu(), targets.cpu()
            r, byte, share = (table[inputs] for table in (ratio, chance, weight))  # (r,t,K)
            real = torch.arange(r.size(-1)) < lengths[targets][..., None]
            own = p.gather(-1, targets[..., None]).clamp(min=1e-300)
            if self.settings.form == "spread":
                each = own ** (1 / lengths[targets][..., None].clamp(min=1))
                nats = -(((1 - share) * each + share * byte).log() * real).sum(-1)
                nats = torch.where(lengths[targets] > 0, nats, -own.squeeze(-1).log())
                return nats.to(logits.device)
            sums = torch.nn.functional.pad(p[..., order].cumsum(-1), (1, 0))  # mass of the first n sorted tokens
            low, same, high = (sums.gather(-1, edges[targets, :, k]) for k in range(3))  # (r,t,K+1)
            mass, ends = (high - low).maximum(own), same - low
            before = mass[..., :-1]
            steps = (1 - share) * mass[..., 1:] / before + share * ((before - ends[..., :-1]) / before).clamp(min=0) * r
            last = own.squeeze(-1) / mass.gather(-1, lengths[targets][..., None]).squeeze(-1)
            return -((steps.clamp(min=1e-300).log() * real).sum(-1) + last.log()).to(logits.device)

        return find

    def mix(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray) -> np.ndarray:
        """See `Mixer.mix`; the reader has mixed already."""
        return side

    def distribution(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray, neural: np.ndarray) -> np.ndarray:
        """See `Mixer.distribution`: along every path of the tree."""
        ppm, context = Ppm(self.settings.order), b""
        for token in np.asarray(tokens)[:-1].tolist():
            text = self.tree.spelling[token]
            ppm.learn(context, text)
            context = (context + text)[-self.settings.order :] if self.settings.order else b""
        if self.settings.form == "spread":
            return self._spread(ppm, context, neural)
        tree, found = self.tree, np.zeros(len(neural))
        sums = np.append(0.0, np.cumsum(neural[tree.order]))
        chances = {b"": 1.0}
        for node in sorted(tree.nodes, key=len):
            low, same, high = tree.nodes[node]
            mass = max(sums[high] - sums[low], 1e-300)
            ends = sums[same] - sums[low]
            exact = tree.order[low:same]
            found[exact] = chances[node] * neural[exact] / mass
            if node in tree.children:
                p, share = self._asked(ppm, context + node)
                following = tree.children[node]
                for byte, r in zip(following.tolist(), p[following] / p[following].sum(), strict=True):
                    low, _, high = tree.nodes[node + bytes([byte])]
                    step = (1 - share) * (sums[high] - sums[low]) / mass + share * max(0.0, 1 - ends / mass) * r
                    chances[node + bytes([byte])] = chances[node] * step
        return found

    def _spread(self, ppm: Ppm, context: bytes, neural: np.ndarray) -> np.ndarray:
        """What the published form charges for every token."""
        found, asked = neural.copy(), {}
        for token, text in enumerate(self.tree.spelling):
            if text:
                found[token] = 1.0
            for at, byte in enumerate(text):
                if text[:at] not in asked:
                    asked[text[:at]] = self._asked(ppm, context + text[:at])
                p, share = asked[text[:at]]
                found[token] *= (1 - share) * neural[token] ** (1 / len(text)) + share * p[byte]
        return found

    def _asked(self, ppm: Ppm, context: bytes) -> tuple[np.ndarray, float]:
        """The byte predictor's distribution (256,), and its weight λ."""
        p = ppm.predict(context)
        return p, self.settings.sure if p.max() > self.settings.confidence else self.settings.unsure

    def _read(self, tokens: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """For every input, at the bytes of its target: r, the byte's own probability, and λ; each (N-1, longest spelling)."""
        ppm, context = Ppm(self.settings.order), b""
        found = np.zeros((3, len(tokens) - 1, self.tree.longest))
        for at, token in enumerate(tokens.tolist()):
            text = self.tree.spelling[token]
            for place, byte in enumerate(text if at else b""):
                p, share = self._asked(ppm, context + text[:place])
                following = self.tree.children[text[:place]]
                found[:, at - 1, place] = p[byte] / p[following].sum(), p[byte], share
            ppm.learn(context, text)
            context = (context + text)[-self.settings.order :] if self.settings.order else b""
        ratio, chance, weight = (torch.from_numpy(table) for table in found)
        return ratio, chance, weight
