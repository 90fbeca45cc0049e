"""The forward pass, written once, from top to bottom. Where a technique can act, the slot of that name is called.

B batch, T positions, D width, H query heads, K key/value heads, d head width, F hidden units, V vocabulary, L layers.
An empty slot has no cost and no effect: its expression is absent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.network.kernels import LOSS_ROWS, causal_attention, head_loss, rms_norm, segmented_attention
from golflab.model.network.layers import Linear, Table, Weighted
from golflab.model.recipe import Recipe


class Attention(nn.Module):
    """Causal self-attention: linear → norm per head → rotation → gain → softmax → output matrix."""

    def __init__(self, recipe: Recipe, layer: int) -> None:
        super().__init__()
        shape = recipe.shape
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        kv_width = shape.kv_heads * shape.head_width
        self.query = Linear(shape.width, shape.width, "attention")
        self.key = Linear(shape.width, kv_width, "attention")
        self.value = Linear(shape.width, kv_width, "attention")
        self.out = Linear(shape.width, shape.width, "attention", start="zeros")
        self.value_mix = recipe.build("value_mix", layer)
        self.qk_norm = recipe.build("qk_norm", layer)
        self.rotary = recipe.build("rotary", layer)
        self.q_gain = recipe.build("q_gain", layer)
        self.attend = recipe.build("attend", layer) or causal_attention
        self.attn_out = recipe.build("attn_out", layer)
        self.head_gate = recipe.build("head_gate", layer)
        self.segments: Tensor | None = None  # (B,T), while the model reads a batch within segments

    def forward(self, h: Tensor, extra: Tensor | None, first: Tensor | None, start: int = 0) -> tuple[Tensor, Tensor]:
        """Attend from positions ``start``… to all positions up to themselves.

        Args:
            h: (B,T,D), normalised.
            extra: (B,T,K,d) added to the values, or None.
            first: (B,T,K,d), the values of the first layer, or None in it.
            start: first position that is returned.

        Returns:
            The branch (B,T-start,D) and this layer's own values (B,T,K,d), before they are mixed with the first layer's.
        """
        asking = h[:, start:]
        q = self.query(asking).unflatten(-1, (self.heads, -1))  # (B,T-start,H,d)
        k = self.key(h).unflatten(-1, (self.kv_heads, -1))  # (B,T,K,d)
        values = self.value(h).unflatten(-1, (self.kv_heads, -1))
        if extra is not None:
            values = values + extra
        v = values
        if self.value_mix is not None and first is not None:
            v = self.value_mix(v, first)
        if self.qk_norm is not None:
            q, k = self.qk_norm(q), self.qk_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q, start), self.rotary(k, 0)
        if self.q_gain is not None:
            q = self.q_gain(q)
        y = self.attend(q, k, v) if self.segments is None else segmented_attention(q, k, v, self.segments)
        if self.attn_out is not None:
            y = self.attn_out(y, v[:, start:])
        if self.head_gate is not None:
            y = self.head_gate(y, asking)
        return self.out(y.flatten(2)), values


class MLP(nn.Module):
    """W_down · activation(W_up · h)."""

    def __init__(self, recipe: Recipe, layer: int) -> None:
        super().__init__()
        self.up = Linear(recipe.shape.width, recipe.shape.hidden, "mlp")
        self.activation = recipe.build("activation", layer)
        self.down = Linear(recipe.shape.hidden, recipe.shape.width, "mlp", start="zeros")

    def forward(self, h: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,D)."""
        return self.down(self.activation(self.up(h)))


class Block(nn.Module):
    """One layer: x ← x + attention(norm(x)); x ← x + mlp(norm(x)), with the slots around it."""

    def __init__(self, recipe: Recipe, layer: int) -> None:
        super().__init__()
        self.enter = recipe.build("enter", layer)
        self.norm = recipe.build("norm", layer)
        self.attention = Attention(recipe, layer)
        self.attention_scale = recipe.build("branch_scale", layer)
        self.mix = recipe.build("mix", layer)
        self.mlp = MLP(recipe, layer)
        self.mlp_scale = recipe.build("branch_scale", layer)
        self.leave = recipe.build("leave", layer)
        self.wiring = recipe.build("wiring", layer)
        # A wiring of several lanes may mix x0 in itself, and may turn skips into skips for one lane only.
        self.wiring_enters: bool = getattr(self.wiring, "enters", False)
        self.into_lanes: Callable[..., Callable[..., Tensor]] | None = getattr(self.wiring, "into_lanes", None)

    def forward(
        self, x: Tensor, x0: Tensor, extra: Tensor | None, first: Tensor | None, start: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Run the layer and return positions ``start``… of the stream (B,T-start,D), and its values (B,T,K,d)."""
        if self.enter is not None and not self.wiring_enters:
            x = self.enter(x, x0)
        if self.wiring is not None:
            x, values = self.wiring(self, x, x0, extra, first, start)
        else:
            x, values = self.in_turn(x, extra, first, start)
        if self.leave is not None:
            x = self.leave(x, x0[..., start:, :])
        return x, values

    def in_turn(self, x: Tensor, extra: Tensor | None, first: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
        """Attention and then the MLP on one stream: positions ``start``… of it, and the layer's values."""
        branch, values = self.attention_branch(x, extra, first, start)
        x = x[..., start:, :] + branch
        if self.mix is not None:
            x = self.mix(x)
        return x + self.mlp_branch(x), values

    def attention_branch(self, x: Tensor, extra: Tensor | None, first: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
        """What attention adds to the stream, and the layer's values."""
        y, values = self.attention(self._normed(x), extra, first, start)
        return (y if self.attention_scale is None else self.attention_scale(y)), values

    def mlp_branch(self, x: Tensor) -> Tensor:
        """What the MLP adds to the stream."""
        y = self.mlp(self._normed(x))
        return y if self.mlp_scale is None else self.mlp_scale(y)

    def _normed(self, x: Tensor) -> Tensor:
        h = rms_norm(x)
        return h if self.norm is None else self.norm(h)


class GPT(nn.Module):
    """A decoder-only language model with the recipe's techniques in its slots.

    Weights are float32 masters, cast for each product. They are not initialised here: see `golflab.model.network.initialize`.

    Args:
        recipe: shape and techniques.
        dtype: the type activations and products use.
    """

    def __init__(self, recipe: Recipe, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        shape = recipe.shape
        self.dtype = dtype
        self.segments = recipe.build("segments")
        self.table = Table(shape.vocabulary, shape.width)
        self.untied = None if shape.tied else Linear(shape.width, shape.vocabulary, "head", start="zeros")
        self.embed = nn.ModuleDict({t.name: t.build(shape) for t in recipe.techniques_in("embed")})
        self.embed_mix = recipe.build("embed_mix")
        self.stem = recipe.build("stem")
        self.value_add = recipe.build("value_add")
        self.path = recipe.build("path")
        skips, virtual = recipe.technique_in("skips"), shape.layers if self.path is None else self.path.span
        self.skips = None if skips is None else skips.build(dataclasses.replace(shape, layers=virtual))
        blocks = [Block(recipe, layer) for layer in range(shape.layers)]
        self.blocks, self.into_lanes = nn.ModuleList(blocks), [block.into_lanes for block in blocks]
        self.exit = recipe.build("exit")
        self.cap = recipe.build("logits")
        self.order, self.span = list(range(shape.layers)), shape.layers  # blocks in their order; steps that skips span
        self.set_progress(0.0)

    @property
    def output(self) -> Weighted:
        """The matrix whose rows are the output vectors: the token table where it is tied."""
        return self.table if self.untied is None else self.untied

    def set_progress(self, progress: float) -> None:
        """Set the progress of the training, in [0, 1], at which depth recurrence switches on. Evaluation uses 1."""
        if self.path is not None:
            self.order, self.span = self.path(progress)

    def hidden(self, ids: Tensor, start: int = 0) -> Tensor:
        """Final normalised states of positions ``start``…: ids (B,T) -> (B,T-start,D).

        Only the last block can omit earlier positions: the others provide its keys and values.
        """
        x = self.table(ids, self.dtype)
        for add in self.embed.values():
            x = x + add(ids, self.dtype)
        if self.embed_mix is not None:
            x = self.embed_mix(x, ids)
        x = rms_norm(x)
        if self.stem is not None:
            x = self.stem(x, ids)
        x0 = x
        extra = [None] * len(self.blocks) if self.value_add is None else self.value_add(ids, self.dtype)
        first: Tensor | None = None
        outputs: list[Tensor] = []
        for step, layer in enumerate(self.order):
            block, into_lanes = self.blocks[layer], self.into_lanes[layer]
            if self.skips is not None:
                skips = self.skips if into_lanes is None else into_lanes(self.skips)
                x = skips(x, outputs, step, self.span)
            last = step == len(self.order) - 1
            cut = start if last and block.mix is None else 0  # a mixer also needs the positions before
            if self.path is not None:
                x = self.path.before(x, x0, self.order, step)
            x, values = block(x, x0, extra[layer], first, cut)
            if self.path is not None:
                x = self.path.after(x, outputs, self.order, step)
            first = values if first is None else first
            outputs.append(x)
        if self.exit is not None:
            x = self.exit(x, outputs)
        if x.dim() == 4:  # lanes of a multi-lane wiring (lanes,B,T,D): they meet here
            x = x.mean(0)
        return rms_norm(x[:, start - ids.size(1) :])

    def hidden_in_training(self, ids: Tensor) -> Tensor:
        """`hidden` as training sees it: attention stays within segments, where a technique in that slot cuts the batch."""
        if self.segments is None:
            return self.hidden(ids)
        attentions = [block.attention for block in self.blocks if isinstance(block, Block)]
        segments = self.segments(ids)
        for attention in attentions:
            attention.segments = segments
        try:
            return self.hidden(ids)
        finally:
            for attention in attentions:
                attention.segments = None

    def logits(self, ids: Tensor, start: int = 0) -> Tensor:
        """Logits of positions ``start``…: ids (B,T) -> (B,T-start,V) float32."""
        return self.head(self.hidden(ids, start))

    def head(self, x: Tensor) -> Tensor:
        """Final states (...,D) -> logits (...,V) float32."""
        z = self.output.apply_to(x).float()
        return z if self.cap is None else self.cap(z)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats: ids (B,T), targets (B,T) -> ()."""
        x = self.hidden_in_training(ids).flatten(0, 1)
        if self.output.delta is None and self.output.observe is None:
            cap = getattr(self.cap, "in_training", self.cap)
            return head_loss(x, self.output.seen(x.dtype), targets.flatten(), cap)
        return F.cross_entropy(self.head(x), targets.flatten())

    def nats(self, ids: Tensor, targets: Tensor, start: int = 0, training: bool = False) -> Tensor:
        """Negative log-likelihood of each target from ``start`` on: ids (B,T), targets (B,T) -> (B,T-start) float32."""
        x = self.hidden_in_training(ids)[:, start:] if training else self.hidden(ids, start)
        wanted = targets[:, start:]
        rows = x.flatten(0, 1).split(LOSS_ROWS)
        goals = wanted.flatten().split(LOSS_ROWS)
        parts = [F.cross_entropy(self.head(r), g, reduction="none") for r, g in zip(rows, goals, strict=True)]
        return torch.cat(parts).view(wanted.shape)
