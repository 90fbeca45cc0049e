import numpy as np
import pytest
import torch

from golflab.model.compression.quantize import quantise
from golflab.model.data.shards import Stream
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import parse
from tests.matrices import dequantise, weighted_error

TINY = Recipe(shape=Shape(layers=2, width=32, heads=2, kv_heads=1, hidden=64, vocabulary=64, context=16))


class Tokens:
    """A stream of pseudo-text."""

    def take(self, start, count):
        return (np.arange(start, start + count) ** 2 % 61).astype(np.uint16)


def model_and_hessians(text):
    model = GPT(TINY)
    initialize(model, TINY)
    for p in model.parameters():
        if p.dim() == 2 and not p.any():
            torch.nn.init.normal_(p, 0, 0.1, generator=torch.Generator().manual_seed(0))
    model.set_progress(1.0)
    return model, parse(text).calibrate(model, Tokens(), TINY)


def test_loses_less_than_nearest_where_it_counts():
    model, hessians = model_and_hessians("gptq:tokens=512")
    weights = {n: p.detach() for n, p in model.named_parameters()}
    infos, errors = parameters_of(model), []
    for rounding in ("nearest", "gptq"):
        stored = dequantise(quantise(weights, infos, TINY.with_(parse("int4_rows"), parse(rounding)), hessians))
        errors.append(sum(weighted_error(weights[n], stored[n], h) for n, h in hessians.items()))
    assert errors[1] < 0.6 * errors[0]


def test_calibrates_on_what_it_is_told_to():
    _, training = model_and_hessians("gptq:tokens=256")
    _, own = model_and_hessians("gptq:tokens=256,text=own")
    assert set(training) == set(own)
    assert any(not torch.allclose(training[n], own[n]) for n in own)
    _, without = model_and_hessians("gptq:tokens=256,tables=false")
    assert set(training) - set(without) == {"table.weight"}


def test_ternary_matrices_and_missing_hessians_are_rounded_plainly():
    weights = {n: p.detach() for n, p in model_and_hessians("gptq:tokens=256")[0].named_parameters()}
    infos = parameters_of(GPT(TINY))
    plain = quantise(weights, infos, TINY.with_(parse("int5_rows")))
    bare = quantise(weights, infos, TINY.with_(parse("int5_rows"), parse("gptq")))
    assert all(torch.equal(plain[n].values, bare[n].values) for n in plain)


def test_roles_are_damped_apart():
    """Rounded with a damping of its own a matrix is what plain GPTQ makes of it with that damping."""
    model, hessians = model_and_hessians("gptq:tokens=256")
    weights, infos = {n: p.detach() for n, p in model.named_parameters()}, parameters_of(model)

    def rounded(text):
        return quantise(weights, infos, TINY.with_(parse("int4_rows"), parse(text)), hessians)

    mixed = rounded("gptq:damping=0.1,mlp_damping=5,table_damping=0.5")
    for role, damping in (("mlp", 0.5), ("table", 0.05), ("attention", 0.1)):
        alone = rounded(f"gptq:damping={damping}")
        names = [info.name for info in infos if info.role == role]
        assert names
        assert all(torch.equal(mixed[n].values, alone[n].values) for n in names)
    assert any(not torch.equal(q.values, rounded("gptq:damping=0.1")[n].values) for n, q in mixed.items())


@pytest.mark.parametrize("context", [4, 16])
def test_windows_that_begin_with_documents(context):
    ids = np.array([7, 7, 1, 5, 6, 1, 9, 9, 9, 9, 9, 9, 1, 4, 4, 4, 4, 4, 4, 4], dtype=np.uint16)
    stream, technique = Stream([ids]), parse("gptq:windows=documents")
    places, expected, behind = technique._places(stream, 6, context), [], 0
    for _ in range(6):
        while ids[behind % 20] != 1:
            behind += 1
        expected.append(behind)
        behind += context
    assert places == expected
    batch = next(technique._batches(None, stream, 6, context, 0))
    assert (batch[:, 0] == 1).all()
    assert batch.shape == (6, context)
    assert parse("gptq")._places(stream, 3, context) == [0, context, 2 * context]


def test_text_without_documents_is_read_all_the_same():
    assert parse("gptq:windows=documents")._places(Stream([np.full(9, 5, np.uint16)]), 2, 4) == [0, 4]
