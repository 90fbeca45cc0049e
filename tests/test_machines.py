"""Machines as blocks: planted differences between them neither fake effects nor hide, and their spread is measured."""

import numpy as np
import pytest

from benchmarks.machines import NAMES, rates, world
from golflab.analysis.columns import machine_of
from golflab.analysis.effects.contribution import contribution
from golflab.analysis.inference.variance_component import group_spread
from golflab.analysis.table import from_records
from golflab.model.system.machine import host
from tests.planted import Planted


def test_blocks_keep_the_error_rate_and_narrow_the_intervals():
    blocked, plain = (rates("screen", "ordered", kind, 40) for kind in (True, False))
    assert blocked.single <= 0.05 + 2 * (0.05 * 0.95 / (40 * 7)) ** 0.5
    assert blocked.half_width < 0.75 * plain.half_width
    assert blocked.refused == 0


def test_without_blocks_arms_on_machines_of_their_own_look_like_effects():
    blocked, plain = (rates("leave-one-out", "ordered", kind, 40) for kind in (True, False))
    assert plain.single > 0.25
    assert blocked.single <= 0.05 + 2 * (0.05 * 0.95 / 40) ** 0.5  # of a world's effects most share the preset's runs
    assert blocked.refused > 0.2  # these arms share no machine with the preset


def test_one_technique_per_machine_is_refused_rather_than_guessed():
    table = world(0, machines=2)
    table["machine"] = np.where(table[NAMES[0]], "a", "b")
    row = contribution(table).set_index("technique").loc[NAMES[0]]
    assert np.isnan(row.delta_bpb)
    assert "machine b" in row.aliases


def test_the_spread_is_told_with_its_interval():
    found = contribution(world(1, machines=4), interactions=False)
    spread = found.attrs["machine_spread"]
    assert spread["machines"] == 4
    assert 0 <= spread["low"] < spread["sd"] < spread["high"]
    assert "machine" in found.attrs["adjusted"]
    assert any("standard deviation" in note and "machines" in note for note in found.attrs["notes"])
    alone = contribution(world(1, machines=1), interactions=False)
    assert np.isnan(alone.attrs["machine_spread"]["sd"])
    assert "one machine" in alone.attrs["machine_spread"]["why"]
    assert "machine" not in alone.attrs["adjusted"]


def test_machines_that_cost_too_many_runs_are_named_and_not_blocked():
    table = world(2)
    table["machine"] = [f"m{k}" for k in range(len(table))]
    found = contribution(table, interactions=False)
    assert "machine" not in found.attrs["adjusted"]
    assert any("too few to compare them within each machine" in note for note in found.attrs["notes"])


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_the_interval_of_the_spread_covers(between):
    """Unequal groups, a covariate beside them: 95 % intervals hold the truth, and the estimate is its median."""
    generator, sizes, inside, above = np.random.default_rng(0), (2, 5, 9, 4), 0, 0
    codes = np.repeat(np.arange(4), sizes)
    dummies = (codes[:, None] == np.arange(1, 4)).astype(float)
    for _ in range(400):
        x = generator.normal(size=len(codes)) + codes
        y = 3 * x + generator.normal(0, between, 4)[codes] + generator.normal(0, 1, len(codes))
        rows = np.column_stack([np.ones(len(codes)), x, dummies, y])
        sd, low, high = group_spread(rows.T @ rows, [2, 3, 4], len(codes))
        inside += low <= between <= high
        above += sd > between
    assert inside / 400 >= 0.95 - 2 * (0.05 * 0.95 / 400) ** 0.5
    assert abs(above / 400 - 0.5) < 0.08  # with none between them, half of the estimates are zero


def test_a_mark_tells_machines_apart_and_hides_their_names(monkeypatch):
    marks = set()
    for name in ("pod-a", "pod-b"):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        marks.add(host())
    assert len(marks) == 2
    assert all(len(mark) == 8 and "pod" not in mark for mark in marks)


def test_a_record_names_its_machine():
    new, old = {"device": "H100", "pace": "H100, 8 cores", "host": "3f"}, {"device": "H100", "pace": "H100, 8 cores"}
    assert machine_of(new) == "H100, host 3f"
    assert machine_of(old) == "H100, 8 cores"
    assert machine_of({}) == ""
    planted = Planted.draw(0, 4)
    records = planted.records(np.eye(4))
    records[0]["machine"] = new
    assert list(from_records(records)["machine"]) == ["H100, host 3f", "cpu", "cpu", "cpu"]
