"""A recipe's forward pass as pseudocode: the lines of `golflab.model.network.gpt`, with the techniques in their slots."""

from __future__ import annotations

from golflab.model.recipe import Recipe

# Slot ("" for a line that is always there), the line if a technique fills the slot, and the line if none does ("": no line).
# `{}` is the technique. The order is that of `golflab.model.network.gpt`; tests compare the two.
LINES = (
    ("segments", "segments = {}(ids), which attention does not leave in training", ""),
    ("", "x = table[ids]", ""),
    ("embed", "x = x + {}(ids)", ""),
    ("embed_mix", "x = {}(x, ids)", ""),
    ("", "x = rms_norm(x)", ""),
    ("stem", "x = {}(x, ids)", ""),
    ("", "x0 = x", ""),
    ("value_add", "extra = {}(ids)", ""),
    ("path", "for layer in {}(progress):", "for layer in 0 … L-1:"),
    ("skips", "    x = {}(x, earlier outputs)", ""),
    ("enter", "    x = {}(x, x0)", ""),
    ("wiring", "    x = {}(x, attention branch, MLP branch), which are", ""),
    ("", "    h = rms_norm(x)", ""),
    ("norm", "    h = {}(h)", ""),
    ("", "    q, k, v = h·W_q, h·W_k, h·W_v", ""),
    ("value_add", "    v = v + extra[layer]", ""),
    ("value_mix", "    v = {}(v, v of the first layer)", ""),
    ("qk_norm", "    q, k = {0}(q), {0}(k)", ""),
    ("rotary", "    q, k = {0}(q), {0}(k)", ""),
    ("q_gain", "    q = {}(q)", ""),
    ("attend", "    y = {}(q, k, v)", "    y = causal_attention(q, k, v)"),
    ("attn_out", "    y = {}(y, v)", ""),
    ("head_gate", "    y = {}(y, h)", ""),
    ("branch_scale", "    x = x + {}(y·W_o)", "    x = x + y·W_o"),
    ("mix", "    x = {}(x)", ""),
    ("", "    h = rms_norm(x)", ""),
    ("norm", "    h = {}(h)", ""),
    ("activation", "    u = {}(h·W_up)", ""),
    ("branch_scale", "    x = x + {}(u·W_down)", "    x = x + u·W_down"),
    ("leave", "    x = {}(x, x0)", ""),
    ("exit", "x = {}(x, all outputs)", ""),
    ("", "x = rms_norm(x)", ""),
)
HEAD = {True: "x·tableᵀ", False: "x·W_head"}


def forward(recipe: Recipe) -> list[str]:
    """The forward pass from token ids to logits, a line per step; empty slots have no line."""
    lines = []
    for slot, filled, empty in LINES:
        names = [t.name for t in recipe.techniques_in(slot)] if slot else [""]
        lines += [filled.format(name) for name in names] or ([empty] if empty else [])
    cap = recipe.technique_in("logits")
    head = HEAD[recipe.shape.tied]
    return [*lines, f"logits = {head if cap is None else f'{cap.name}({head})'}"]
