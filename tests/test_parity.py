"""The presets' forward passes against the seeds' definitions, written out a second time, slowly and plainly.

The reference reads weights by name and knows nothing of slots or techniques. Every weight is disturbed first, so that no
zero or one at the start hides a mistake.
"""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import generator, initialize
from golflab.spaces.presets import PRESETS

SEEDS = [name for name in PRESETS if name.startswith("seed_")]


def small(name):
    """The preset in a body of its own depth: nothing that depends on layer numbers is scaled away."""
    full = PRESETS[name]
    shape = dataclasses.replace(full.shape, width=64, heads=4, kv_heads=4 * full.shape.kv_heads // 8, hidden=96, vocabulary=300)
    return dataclasses.replace(full, shape=shape, techniques=tuple(t.rescale(full.shape, shape) for t in full.techniques))


def weights_of(recipe):
    """A model with noise on every weight, and its weights in float64."""
    model = initialize(GPT(recipe), recipe).double()
    model.dtype = torch.float64
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn(p.shape, generator=generator(7, name), dtype=torch.float64) * 0.1)
    model.set_progress(1.0)
    return model, {name.removesuffix(".weight"): p.detach() for name, p in model.named_parameters()}


def norm(x):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)


def rotate(x, dims, base):
    """x (B,T,d): rotate the pairs (i, i + dims/2) of the first dims by position · base^(−2i/dims)."""
    out = x.clone()
    for t in range(x.size(1)):
        for i in range(dims // 2):
            angle = t * base ** (-2 * i / dims)
            a, b = x[:, t, i], x[:, t, i + dims // 2]
            out[:, t, i] = a * math.cos(angle) + b * math.sin(angle)
            out[:, t, i + dims // 2] = -a * math.sin(angle) + b * math.cos(angle)
    return out


def bigrams(w, ids, buckets):
    index = torch.empty_like(ids)
    for row in range(ids.size(0)):
        index[row, 0] = buckets - 1
        for t in range(1, ids.size(1)):
            index[row, t] = ((36313 * int(ids[row, t])) ^ (27191 * int(ids[row, t - 1]))) % (buckets - 1)
    return w["embed.bigram_hash.table"][index] @ w["embed.bigram_hash.project"].T * w["embed.bigram_hash.scale"]


def attention(w, layer, h, extra, first, seed, layers):
    """One layer's attention: (B,T,D) -> (B,T,D) and the values it hands on."""
    key = f"blocks.{layer}.attention"
    heads, dim = w[f"{key}.q_gain.weight"].numel(), h.size(-1) // w[f"{key}.q_gain.weight"].numel()
    kv = w[f"{key}.key"].size(0) // dim
    q, k, v = (h @ w[f"{key}.{n}"].T for n in ("query", "key", "value"))
    if extra is not None:
        v = v + extra
    own = v
    if first is not None and seed == 680:
        v = w[f"{key}.value_mix.weight"][0] * first + w[f"{key}.value_mix.weight"][1] * v
    if first is not None and seed == 1499:
        p = torch.softmax(w[f"{key}.value_mix.weight"], 0)
        v = p[0] * v + p[1] * first
    dims = {211: dim, 295: dim}.get(seed, dim // 4)
    base = 10000.0 * 2 ** (dims / (dims - 2)) if seed in (849, 680) else 10000.0
    length = h.size(1)
    out = torch.zeros_like(q)
    for head in range(heads):
        mine = slice(head * dim, (head + 1) * dim)
        theirs = slice(head * kv // heads * dim, (head * kv // heads + 1) * dim)
        qh = rotate(norm(q[..., mine]), dims, base) * w[f"{key}.q_gain.weight"][head]
        kh, vh = rotate(norm(k[..., theirs]), dims, base), v[..., theirs]
        scores = qh @ kh.transpose(1, 2) / math.sqrt(dim)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
        weights = torch.softmax(scores, -1)
        if seed == 1499 and layer >= layers - 4:
            weights = weights - torch.diag_embed(torch.diagonal(weights, dim1=1, dim2=2))
        y = weights @ vh
        if seed == 849 or (seed == 680 and layer >= layers - 4):
            unit = vh / vh.norm(dim=-1, keepdim=True)
            y = y - (y * unit).sum(-1, keepdim=True) * unit
        if seed == 849:
            y = y * w[f"{key}.head_gate.weight"][head]
        if seed == 680:
            y = y * torch.sigmoid(h @ w[f"{key}.head_gate.weight"][head] + w[f"{key}.head_gate.bias"][head]).unsqueeze(-1)
        out[..., mine] = y
    return out @ w[f"{key}.out"].T, own


def mlp(w, layer, h, seed):
    u = h @ w[f"blocks.{layer}.mlp.up"].T
    slope = {849: 0.9, 680: 0.5, 1499: 0.5}.get(seed, 0.0)
    u = torch.where(u > 0, u, slope * u) ** 2
    if seed == 1499:
        u = u * w[f"blocks.{layer}.mlp.activation.gain"]
    return u @ w[f"blocks.{layer}.mlp.down"].T


def wavelet(x, s, channels):
    """The Haar form as published; the technique computes what is left of it."""
    w = x[..., :channels]
    low, high = [], []
    for t in range(w.size(1)):
        p = w[:, max(t - 1, 0)]
        low.append((w[:, t] + p) / math.sqrt(2))
        high.append((w[:, t] - p) / math.sqrt(2))
    mixed = [low[t] + s * (low[max(t - 1, 0)] - low[t]) for t in range(len(low))]
    out = torch.stack([(a + b) / math.sqrt(2) for a, b in zip(mixed, high, strict=True)], 1)
    return torch.cat([out, x[..., channels:]], -1)


def block(w, layer, x, x0, extra, first, seed, layers):
    key = f"blocks.{layer}"
    m = w[f"{key}.enter.weight"]
    x = m[0] * x + m[1] * x0
    scale = 1 / math.sqrt(layer + 1) if seed in (849, 680, 1499) else 1.0
    a, values = attention(w, layer, norm(x) * scale, extra, first, seed, layers)
    a = w[f"{key}.attention_scale.weight"] * a
    if seed == 1499 and layer >= 7:
        return x + a + w[f"{key}.mlp_scale.weight"] * mlp(w, layer, norm(x) * scale, seed), values
    x = x + a
    if seed == 680:
        s = w[f"{key}.mix.weight"]
        x = wavelet(x, s, s.numel())
    x = x + w[f"{key}.mlp_scale.weight"] * mlp(w, layer, norm(x) * scale, seed)
    if seed == 849:
        x = x + w[f"{key}.leave.weight"] * x0
    return x, values


def logits(w, ids, seed, layers, buckets):
    """The whole pass, as techniques are ordered in every seed."""
    x = w["table"][ids]
    if seed != 211:
        x = x + bigrams(w, ids, buckets)
    x = norm(x)
    if seed != 211:
        g = torch.sigmoid(w["stem.theta"])
        x = torch.stack([(1 - g) * x[:, t] + (g * x[:, t - 1] if t else 0) for t in range(x.size(1))], 1)
    x0, first, saved, outputs = x, None, [], []
    encoder = layers // 2
    for layer in range(layers):
        if layer >= encoder and saved:
            x = x + w["skips.weight"][layer - encoder] * saved.pop()
        extra = None
        if seed in (849, 680) and layer >= layers - 2:
            shared = w["value_add.table"][ids] @ w["value_add.project"].T * w["value_add.shared"]
            extra = shared * w["value_add.gains"][layer - (layers - 2)]
        x, values = block(w, layer, x, x0, extra, first, seed, layers)
        first = values if first is None else first
        outputs.append(x)
        if layer < encoder:
            saved.append(x)
    if seed == 1499:
        for layer in (3, 4, 5):
            x, _ = block(w, layer, x, x0, None, first, seed, layers)
    if seed == 295:
        x = x - w["exit.weight"] * outputs[layers // 2]
    z = norm(x) @ w["table"].T
    return 30 * torch.tanh(z / 30)


@pytest.mark.parametrize("name", SEEDS)
def test_the_forward_pass_is_the_seeds(name):
    recipe = small(name)
    seed, shape = int(name.split("_")[1]), recipe.shape
    model, w = weights_of(recipe)
    hashed = next((t for t in recipe.techniques if t.name == "bigram_hash"), None)
    ids = torch.randint(4, shape.vocabulary, (2, 9), generator=torch.Generator().manual_seed(1))
    expected = logits(w, ids, seed, shape.layers, hashed.buckets if hashed else 0)
    got = model.logits(ids).double()
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()
    loss = F.cross_entropy(expected.flatten(0, 1), ids.flatten())
    assert model(ids, ids).item() == pytest.approx(loss.item(), rel=1e-4)
