"""Many artifacts of one training: what is combined, what is shared, what the table says, and the command that prints it."""

from __future__ import annotations

import csv
import itertools
import json
import sys

import numpy as np
import pytest
import torch

from golflab.analysis.report import variants as page
from golflab.model.compression.quantize import quantise
from golflab.model.evaluation.score import evaluate
from golflab.model.network.layers import parameters_of
from golflab.model.network.weights import load_weights
from golflab.model.recipe import Recipe
from golflab.model.run import training
from golflab.model.variants import CHOICES, Bits, combinations, ranked, stored_loss, variants
from golflab.search.cli import main as cli
from golflab.search.cli.variants import choices_of, finish
from tests.contract_helpers import BASE, BATCH, made_up_corpus
from tests.matrices import dequantise, infos, weights

FEW = {"codec": ("zlib_codec", "rans_codec"), "bits": ("int8_rows", "int4_rows"), "rounding": ("nearest", "gptq:tokens=1024")}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = made_up_corpus(tmp_path_factory.mktemp("corpus"))
    return BASE.with_(corpus=str(path), tokens=12 * BATCH, limit=32_000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def table(recipe, cache):
    return finish(recipe, cache, FEW, score_tokens=1500)


def test_more_than_a_hundred_artifacts_of_one_training():
    assert len({r.hash for r in combinations(Recipe())}) == 160
    assert all(r.shape == Recipe().shape for r in combinations(Recipe()))


def test_combinations_that_quantise_alike_follow_each_other():
    keys = [str(r.techniques_in("bits")) for r in combinations(Recipe(), FEW)]
    assert sum(a != b for a, b in itertools.pairwise(keys)) == 1


def test_quantises_calibrates_and_scores_once_per_way_of_quantising():
    calibrated, scored = [], []
    found = list(
        variants(
            weights(infos()),
            infos(),
            combinations(Recipe(), FEW),
            lambda r: calibrated.append(str(r.technique_in("rounding"))),
            lambda w: scored.append(len(w)) or Bits(np.array([len(scored)], float), np.array([1.0])),
        )
    )
    assert len(found) == 8
    assert sorted(calibrated) == ["gptq:tokens=1024", "nearest"]
    assert len(scored) == 4
    assert found[0].score is found[1].score
    assert found[0].bytes != found[1].bytes


def test_a_damaged_round_trip_is_no_row(monkeypatch):
    monkeypatch.setattr("golflab.model.variants.unpack", lambda blob: {i.name: torch.zeros(i.shape) for i in infos()})
    with pytest.raises(RuntimeError, match="did not unpack"):
        list(variants(weights(infos()), infos(), combinations(Recipe(), {})))


def test_scores_are_of_the_quantised_weights(recipe, cache, table):
    done = training(recipe, cache)
    chosen = next(r for r in combinations(recipe, FEW) if str(r.technique_in("bits")) == "int4_rows")
    load_weights(done.model, dequantise(quantise(done.weights, parameters_of(done.model), chosen)))
    text = [np.concatenate(done.data.dev)[:1500]]
    row = next(r for r in table.rows if r["recipe"] == chosen.hash)
    assert row["bpb"] == pytest.approx(evaluate(done.model, text, done.data.tokenizer, chosen).bpb, rel=1e-6)


def test_the_table_is_ranked_and_carries_errors(recipe, table):
    assert [r["rank"] for r in table.rows] == list(range(1, 9))
    assert len({r["recipe"] for r in table.rows}) == 8
    fits = [r["fits"] for r in table.rows]
    assert fits == sorted(fits, reverse=True)
    assert any(fits)
    assert not all(fits)
    inside = [r["bpb"] for r in table.rows if r["fits"]]
    assert inside == sorted(inside)
    assert table.rows[0]["over_best"] == 0
    for row in table.rows:
        assert row["over_float"] == pytest.approx(row["bpb"] - table.bpb_float, abs=1e-9)
        assert row["over_float_se"] > 0
        assert row["fits"] == (row["bytes"] <= recipe.limit)


def test_the_paired_error_is_that_of_a_ratio_of_sums():
    rng = np.random.default_rng(0)
    sizes = rng.integers(500, 1500, (400, 60)).astype(float)
    gaps = 0.01 * sizes + rng.normal(0, 3, sizes.shape) * np.sqrt(sizes)
    found = [Bits(2 * s + g, s).minus(Bits(2 * s, s)) for s, g in zip(sizes, gaps, strict=True)]
    deltas, errors = np.array(found).T
    assert deltas.mean() == pytest.approx(0.01, abs=0.001)
    assert errors.mean() == pytest.approx(deltas.std(), rel=0.1)


def test_a_single_stretch_has_no_error():
    one = Bits(np.array([2.0]), np.array([1.0]))
    assert np.isnan(one.minus(one)[1])
    unscored = list(variants(weights(infos()), infos(), combinations(Recipe(), {})))
    assert ranked(unscored)[0]["bpb"] is None
    assert 0 < unscored[0].loss < 0.01


def test_loss_is_that_of_the_stored_weights():
    done = quantise(weights(infos()), infos(), Recipe())
    assert stored_loss(dequantise(done), done) == 0


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (CHOICES | {"bits": ("sd_clip",)}, "fills the slot 'clip', not 'bits'"),
        ({"skips": ("unet_skips",)}, "'skips' is no slot that acts after training"),
    ],
)
def test_a_technique_under_the_wrong_slot_is_refused(choices, said):
    with pytest.raises(ValueError, match=said):
        list(combinations(Recipe(), choices))


def test_choices_read_as_the_command_line_writes_them():
    chosen = choices_of(["bits=int6_rows:table=6,mlp=5,int8_rows", "prune=none"])
    assert chosen["bits"] == ("int6_rows:table=6,mlp=5", "int8_rows")
    assert chosen["prune"] == ("",)
    assert chosen["codec"] == CHOICES["codec"]
    with pytest.raises(ValueError, match="must read like"):
        choices_of(["bits"])


def test_the_command_writes_a_table_and_a_page_and_trains_once(recipe, cache, table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("golflab.search.cli.run_one.recipe_of", lambda *names, **changes: recipe)
    (tmp_path / "cache").symlink_to(cache, target_is_directory=True)
    before = sorted(p.name for p in (cache / "train").glob("*.stage"))
    words = ["variants", "baseline", "--runs", tmp_path, "--choice", "bits=int8_rows,int4_rows", "--choice", "prune=none"]
    words += ["--choice", "clip=row_max,sd_clip", "--choice", "rounding=nearest", "--score-tokens", 1500, "--json"]
    monkeypatch.setattr(sys, "argv", ["golflab", *map(str, words)])
    cli.app(standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert len(told["variants"]) == 8
    assert sorted(p.name for p in (cache / "train").glob("*.stage")) == before
    sheet = next((tmp_path / "variants").glob("*.csv"))
    assert [row["recipe"] for row in csv.DictReader(sheet.open())] == [row["recipe"] for row in told["variants"]]
    html = sheet.with_suffix(".html").read_text()
    assert "int4_rows" in html
    assert "src=" not in html.split("<body>")[1]
    frame = page.variants(told)
    front = frame[frame["efficient"]].sort_values("bytes")
    assert front["bpb"].is_monotonic_decreasing
    assert any("Not distinguishable from the best" in line for line in page.summary(told, frame))
