"""The records' forward passes against their definitions, written out a second time, slowly and plainly.

As in `test_parity`: the reference reads weights by name and knows nothing of slots or techniques; every weight is disturbed.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.test_parity import norm, rotate, small, weights_of

RECORDS = (1394, 1493, 1855, 2014)
LAYERS = 11
Weights = dict[str, Tensor]


def attention(w: Weights, layer: int, h: Tensor, gated: bool) -> Tensor:
    """One layer's attention, one head after the other: (B,T,D) -> (B,T,D)."""
    key = f"blocks.{layer}.attention"
    heads = w[f"{key}.q_gain.weight"].numel()
    dim = h.size(-1) // heads
    shared = heads * dim // w[f"{key}.key"].size(0)  # query heads of a key/value head
    q, k, v = (h @ w[f"{key}.{n}"].T for n in ("query", "key", "value"))
    out, length = torch.zeros_like(q), h.size(1)
    for head in range(heads):
        mine, theirs = (slice(n * dim, n * dim + dim) for n in (head, head // shared))
        qh = rotate(norm(q[..., mine]), dim // 4, 10000.0) * w[f"{key}.q_gain.weight"][head]
        kh, vh = rotate(norm(k[..., theirs]), dim // 4, 10000.0), v[..., theirs]
        scores = qh @ kh.transpose(1, 2) / math.sqrt(dim)
        y = torch.softmax(scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf), -1) @ vh
        unit = vh / vh.norm(dim=-1, keepdim=True)
        y = y - (y * unit).sum(-1, keepdim=True) * unit
        if gated:
            y = y / (1 + torch.exp(-0.5 * h[..., :12] @ w[f"{key}.head_gate.weight"][head])).unsqueeze(-1)
        out[..., mine] = y
    return out @ w[f"{key}.out"].T * w[f"blocks.{layer}.attention_scale.weight"]


def mlp(w: Weights, layer: int, h: Tensor) -> Tensor:
    """W_down of the squared leaky units of W_up."""
    u = h @ w[f"blocks.{layer}.mlp.up"].T
    return torch.where(u > 0, u, 0.5 * u) ** 2 @ w[f"blocks.{layer}.mlp.down"].T * w[f"blocks.{layer}.mlp_scale.weight"]


def embedded(w: Weights, ids: Tensor, smeared: bool) -> Tensor:
    """Rows of the table, from #1855 on with a share of the row before, and their norm."""
    e = w["table"][ids]
    out = e.clone()
    for row in range(ids.size(0)):
        for t in range(1, ids.size(1)):
            if smeared and ids[row, t] != 1:
                share = w["embed_mix.strength"] / (1 + torch.exp(-(e[row, t, :12] @ w["embed_mix.gate"])))
                out[row, t] = e[row, t] + share * e[row, t - 1]
    return norm(out)


def logits(w: Weights, ids: Tensor, record: int) -> Tensor:
    """The whole pass: ids (B,T) -> (B,T,V)."""
    loop = [4, 5] if record == 1394 else [3, 4, 5]
    order = [*range(6), *loop, *loop, *range(6, LAYERS)]
    down, lanes = len(order) // 2, record >= 1855
    x = x0 = embedded(w, ids, lanes)
    other: Tensor | None = None  # the second lane
    outputs: list[Tensor] = []
    for step, layer in enumerate(order):
        key, up = f"blocks.{layer}", step - down
        if lanes and layer == 8:
            other = x
        if 0 <= up < down:
            skip, gate = w["skips.weight"][up] * outputs[down - 1 - up], torch.sigmoid(w["skips.gate"][up])
            x = gate * x + (1 - gate) * skip
        read, scale = w[f"{key}.enter.weight"][0] * x + w[f"{key}.enter.weight"][1] * x0, 1 / math.sqrt(layer + 1)
        attended = attention(w, layer, norm(read) * scale, lanes)
        if other is not None:
            out, r, p = mlp(w, layer, norm(other) * scale), w[f"{key}.wiring.keep"], w[f"{key}.wiring.give"]
            x, other = r[0] * x + p[0, 0] * attended + p[1, 0] * out, r[1] * other + p[0, 1] * attended + p[1, 1] * out
        elif record == 1493 and layer >= 7:
            x = read + attended + mlp(w, layer, norm(read) * scale)
        else:
            x = read + attended
            x = x + mlp(w, layer, norm(x) * scale)
        outputs.append(x)
    z = norm(x if other is None else (x + other) / 2) @ w["table"].T
    if record == 2014:
        cap = torch.where(z > 0, w["cap.positive"], w["cap.negative"])
        return cap * torch.tanh(z / cap)
    return 30 * torch.tanh(z / 30)


@pytest.mark.parametrize("record", RECORDS)
def test_the_forward_pass_is_the_records(record):
    recipe = small(f"record_{record}")
    model, w = weights_of(recipe)
    ids = torch.randint(4, recipe.shape.vocabulary, (2, 9), generator=torch.Generator().manual_seed(1))
    ids[0, 4] = ids[1, 0] = 1
    expected = logits(w, ids, record)
    got = model.logits(ids).double()
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()
