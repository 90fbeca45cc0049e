"""Response curves and importances of knobs."""

import numpy as np
import pytest

from golflab.analysis.effects.knobs import importance, response
from golflab.analysis.effects.rungs import agreement, rungs, signs
from golflab.analysis.table import from_records
from tests.planted import Planted


@pytest.fixture(scope="module")
def table():
    world, generator = Planted.draw(1, 6), np.random.default_rng(0)
    records = world.records((generator.random((80, 6)) < 0.5).astype(float))
    for record in records:
        knobs = {
            "theta": float(generator.uniform(0.1, 0.9)),
            "rate": float(10 ** generator.uniform(-3, -1)),
            "kind": str(generator.choice(["a", "b"])),
        }
        record["spec"]["techniques"]["bedrock"] = knobs
        record["bpb"] += 0.05 * (knobs["theta"] - 0.6) ** 2 + 0.004 * (knobs["kind"] == "b")
    return from_records(records)


def test_a_response_and_none(table):
    curves = response(table)
    theta = curves[curves["knob"] == "bedrock.theta"]
    assert theta["q_bh"].iloc[0] < 0.01
    assert theta.loc[theta["delta_bpb"].idxmin(), "value"] == pytest.approx(0.6, abs=0.1)
    rate = curves[curves["knob"] == "bedrock.rate"]
    assert rate["p"].iloc[0] > 0.01
    kind = curves[curves["knob"] == "bedrock.kind"].set_index("value")
    assert kind.loc["b", "delta_bpb"] - kind.loc["a", "delta_bpb"] == pytest.approx(0.004, abs=0.001)
    assert (curves["low"] <= curves["delta_bpb"]).all()


def test_importances_are_of_knobs_only(table):
    out = importance(table)
    assert set(out["knob"]) == {"bedrock.theta", "bedrock.rate"}
    assert out["importance"].sum() == pytest.approx(1.0)


def test_rungs(table):
    long = rungs(table)
    assert set(long["rung"]) == {0.25, 0.5, 0.75, 1.0}
    out = agreement(table)
    assert list(out["rung"]) == [0.25, 0.5, 0.75]
    assert (out["high"] >= out["spearman"]).all()
    told = signs(table, ["technique_b"])
    assert told["technique_b"].count("%") == 3
