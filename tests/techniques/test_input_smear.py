"""The input-dependent SmearGate against a loop over positions."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.network.kernels import rms_norm
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from golflab.model.techniques.model.input_smear import InputSmear
from tests.contract_helpers import BASE, FULL, TINY, ids_and_targets

IDS = torch.tensor([[7, 8, 1, 9, 1, 4, 11, 12, 10, 10]])  # 9 … 11 are a space and a marker as one token


def smeared(window: int, mask: bool, fused: bool) -> torch.nn.Module:
    module = InputSmear(window=window, mask_documents=mask, mask_fused=fused).build(TINY)
    torch.nn.init.normal_(module.gate.weight)
    torch.nn.init.constant_(module.strength.weight, 0.7)
    return module


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_it_is_the_loop(mask, fused):
    module, x = smeared(5, mask, fused), torch.randn(1, 10, 32)
    w, out = module.gate.weight.tolist(), module(x, IDS)
    for t in range(10):
        logit = sum(w[i] * x[0, t, i].item() for i in range(5))
        share = 0.7 / (1 + math.exp(-logit))
        alone = t == 0 or (mask and IDS[0, t] == 1) or (fused and IDS[0, t - 1] in (9, 10, 11))
        expected = x[0, t] + (0.0 if alone else share) * (0 if t == 0 else x[0, t - 1])
        assert torch.allclose(out[0, t], expected, atol=1e-6)


def test_it_reads_raw_embeddings_and_starts_as_nothing():
    recipe, (ids, _) = BASE.with_(InputSmear(window=5)), ids_and_targets()
    model, without = initialize(GPT(recipe), recipe), initialize(GPT(BASE), BASE)
    assert torch.equal(model.logits(ids), without.logits(ids))
    torch.nn.init.normal_(model.embed_mix.gate.weight)
    torch.nn.init.constant_(model.embed_mix.strength.weight, 0.7)
    entered = []
    model.blocks[0].register_forward_hook(lambda m, args, out: entered.append(args[1]))
    model.logits(ids)
    assert torch.allclose(entered[0], rms_norm(model.embed_mix(model.table(ids, torch.float32), ids)))


def test_it_has_thirteen_parameters():
    assert sum(p.numel() for p in InputSmear().build(FULL).parameters()) == 13


def test_it_masks_fused_tokens_only_where_a_text_has_some():
    asked = InputSmear(mask_fused=True)
    assert Recipe(TINY, techniques=(asked,)).hash == Recipe(TINY, techniques=(InputSmear(),)).hash
    fused = Recipe(TINY, techniques=(parse("caseops:fusion=true"), asked))
    assert fused.technique_in("embed_mix") == asked
    assert GPT(fused).embed_mix.mask_fused
