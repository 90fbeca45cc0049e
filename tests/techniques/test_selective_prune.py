import torch

from golflab.model.compression.artifact import pack
from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import infos, weights

RECIPE = Recipe().with_(parse("int5_rows:table=5"), parse("sd_clip"))


def sizes(limit):
    untouched = quantise(weights(infos()), infos(), RECIPE)
    trimmed = quantise(weights(infos()), infos(), RECIPE.with_(parse("selective_prune"), limit=limit), None, 0)
    return untouched, trimmed, len(pack(untouched, RECIPE)), len(pack(trimmed, RECIPE))


def test_a_file_that_fits_is_left_alone():
    untouched, trimmed, before, after = sizes(1_000_000)
    assert before == after
    assert all(torch.equal(untouched[n].values, trimmed[n].values) for n in untouched)


def test_stops_just_below_the_limit_and_drops_the_cheapest():
    *_, before, _ = sizes(1_000_000)
    limit = int(before * 0.93)
    untouched, trimmed, _, after = sizes(limit)
    assert limit * 0.99 <= after <= limit
    dropped, kept = [], []
    for name, q in untouched.items():
        if q.scales is None:
            continue
        changed = q.values != trimmed[name].values
        assert not trimmed[name].values[changed].any()
        assert (q.values[changed].abs() == 1).all()
        costs = q.scales.float()[:, None].expand(q.values.shape)
        dropped.append(costs[changed])
        kept.append(costs[(q.values.abs() == 1) & ~changed])
    assert float(torch.cat(dropped).max()) <= float(torch.cat(kept).min())


def test_tolerance_says_how_far_below_the_limit_it_may_stop():
    limit = int(sizes(1_000_000)[2] * 0.93)
    strict, loose = (
        len(
            pack(
                quantise(
                    weights(infos()), infos(), RECIPE.with_(parse(f"selective_prune:tolerance={t}"), limit=limit), None, 0
                ),
                RECIPE,
            )
        )
        for t in (0.0, 0.01)
    )
    assert limit * 0.99 <= loose < strict <= limit


def test_an_impossible_limit_drops_all_ones_and_no_more():
    untouched, trimmed, _, after = sizes(100)
    assert after > 100
    assert all(
        torch.equal(trimmed[n].values, q.values * (q.values.abs() != 1)) for n, q in untouched.items() if q.scales is not None
    )
