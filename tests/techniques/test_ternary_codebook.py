import pytest
import torch

from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.grid import Grid, Quantised
from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import LINEAR, infos, weights, wrong_trits


def ternary(zeros, rows=512, columns=512):
    dice = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (rows, columns), generator=dice) * 2 - 1
    trits = (signs * (torch.rand(rows, columns, generator=dice) > zeros)).to(torch.int8)
    return Quantised(LINEAR, Grid(1, -1), trits, torch.ones(rows, dtype=torch.float16))


def coded(text, q):
    return parse(text).build(None)({"w": q}, None, 0)["w"]


@pytest.mark.parametrize(("zeros", "wrong", "error"), [(0.31, 0.21, 0.30), (0.5, 0.18, 0.35), (0.8, 0.02, 0.11)])
def test_loses_what_the_reference_measured_on_independent_trits(zeros, wrong, error):
    q = ternary(zeros)
    share, energy = wrong_trits(q, coded("ternary_codebook", q))
    assert share == pytest.approx(wrong, abs=0.035)
    assert energy == pytest.approx(error, abs=0.04)


def test_at_most_that_many_vectors_are_left():
    after = coded("ternary_codebook:codes=16", ternary(0.5))
    assert len(torch.unique(after.values.view(-1, 8), dim=0)) <= 16


def test_distances_minimise_what_they_name_and_modes_do_better():
    q = ternary(0.5)
    by_energy, by_count = (wrong_trits(q, coded(f"ternary_codebook:distance={d}", q)) for d in ("squared", "hamming"))
    assert by_energy[1] <= by_count[1]
    assert by_count[0] <= by_energy[0]
    assert wrong_trits(q, coded("ternary_codebook:book=modes", q))[1] <= by_energy[1] + 1e-6


def test_more_rounds_lose_less():
    q = ternary(0.31)
    once, often = (wrong_trits(q, coded(f"ternary_codebook:book=modes,codes=64,rounds={n}", q)) for n in (1, 8))
    assert often[1] < once[1]


def test_packs_to_a_byte_per_eight_weights():
    recipe = Recipe().with_(*map(parse, ("ternary_rows", "ternary_codebook", "codebook_bytes", "zlib_codec"))).check()
    done = quantise(weights(infos()), infos(), recipe, None, 0)
    back = unpack(pack(done, recipe))
    assert all(torch.equal(back[n], q.dequantised()) for n, q in done.items())
