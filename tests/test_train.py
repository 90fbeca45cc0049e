"""The training loop: it learns, resumes exactly, stops when told, and says when it cannot go on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from model import train as loop
from model.batches import Batches
from model.stages import read_tensors
from model.technique import parse
from model.train import Clock, TrainingFailed, riding, train
from tests.contract_helpers import BASE, BATCH, TINY, _trained, stream, trained

LONG = BASE.with_(parse("ema"), parse("adam_groups:weight_decay=0.01"), parse("clip_norm"), tokens=40 * BATCH)
KILLED = """
import sys, pathlib
import model.train, tests.test_train as t
model.train.CHECKPOINT_SECONDS = 0.0
t.train(t.LONG, t.source(t.LONG), checkpoint=pathlib.Path(sys.argv[1]), on_step=lambda p: print(p["step"], flush=True))
"""


def source(recipe) -> Batches:
    return recipe.tenant("batches").build(recipe.shape)(stream(), recipe.schedule.batch_tokens, recipe.seed)


def same(a, b) -> bool:
    weights = all(torch.equal(a.weights[n], b.weights[n]) for n in a.weights)
    averages = all(torch.equal(a.averages[k][n], b.averages[k][n]) for k in a.averages for n in a.averages[k])
    losses = [(p["step"], p["loss"]) for p in a.curve] == [(p["step"], p["loss"]) for p in b.curve]
    return weights and averages and losses and set(a.averages) == set(b.averages)


def test_it_learns_what_repeats():
    recipe = BASE.with_(tokens=100 * BATCH)

    class Same:
        def batch(self, step, rank=0, world=1):
            ids = torch.arange(2, 2 + 2 * 33).view(2, 33)
            return ids[:, :-1], ids[:, 1:]

    curve = train(recipe, Same()).curve
    assert curve[0]["loss"] == pytest.approx(math.log(TINY.vocabulary), abs=0.1)
    assert curve[-1]["loss"] < 2.0


def test_a_stopped_run_continues_bit_exactly(tmp_path, monkeypatch):
    """Half the run, a new `Run` from its checkpoint, the other half: weights, averages and curve are identical."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "c"
    first = train(
        LONG, source(LONG), checkpoint=path, on_rung=lambda point, model: "halt" if point["progress"] >= 0.5 else None
    )
    assert first.stopped == "halt"
    assert first.tokens == 20 * BATCH
    assert same(train(LONG, source(LONG), checkpoint=path), trained(LONG))


def test_a_killed_process_continues_bit_exactly(tmp_path):
    """SIGKILL at some step, then a run in this process goes on from whatever checkpoint there was."""
    path = tmp_path / "c"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 15:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert path.exists()
    steps = []
    resumed = train(LONG, source(LONG), checkpoint=path, on_step=lambda p: steps.append(p["step"]))
    assert steps[0] > 10
    assert same(resumed, trained(LONG))


def test_a_damaged_checkpoint_is_not_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "c"
    train(LONG, source(LONG), checkpoint=path, on_rung=lambda point, model: "halt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert same(train(LONG, source(LONG), checkpoint=path), trained(LONG))


def test_rungs_are_called_in_order_and_once():
    points = []
    result = train(LONG, source(LONG), on_rung=lambda point, model: points.append(point))
    assert [p["step"] for p in points] == [10, 20, 30]
    assert result.stopped == ""
    assert result.tokens == 40 * BATCH


def test_a_loss_that_is_not_finite_ends_the_run():
    recipe = BASE.with_(tokens=20 * BATCH)
    ids = torch.full((2, TINY.context), 5)

    class Poison:
        def batch(self, step, rank=0, world=1):
            return ids, ids

    def at(point, model):
        with torch.no_grad():
            model.table.weight[5] = float("nan")

    with pytest.raises(TrainingFailed, match=r"nan at step 6"):
        train(recipe, Poison(), on_rung=at)


def test_micro_batches_add_up_to_the_batch(tmp_path, monkeypatch):
    """The same loss and, after one step, momenta: they are the gradient, wholly (Muon) or a tenth of it (Adam).

    Float32 rounds two sums otherwise than one. An element is a sum of terms up to a thousand times as large, each wrong by a
    few units in its last place.
    """
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    losses, momenta = [], []
    for name, micro in (("whole", BATCH), ("halves", BATCH // 2)):
        recipe = BASE.with_(tokens=BATCH, micro_tokens=micro)
        losses.append(train(recipe, source(recipe), checkpoint=tmp_path / name).curve[0]["loss"])
        tensors, _ = read_tensors(tmp_path / name)
        momenta.append({n: t for n, t in tensors.items() if "momentum." in n or "exp_avg." in n})
    assert losses[0] == pytest.approx(losses[1], rel=16 * 2**-23)
    assert momenta[0]
    for name, whole in momenta[0].items():
        assert torch.allclose(whole, momenta[1][name], rtol=0, atol=float(1000 * 2**-23 * whole.abs().max())), name


def test_the_clock_bounds_a_run_and_drives_the_schedule():
    recipe = BASE.with_(tokens=None, seconds=0.5)
    result = train(recipe, source(recipe))
    assert result.tokens > 0
    assert result.seconds >= 0.5


def test_the_clock_pauses(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    now[0] += 2.0
    with clock.paused():
        now[0] += 30.0
    assert clock.seconds() == 2.0
    clock.set(100.0)
    now[0] += 0.5
    assert clock.seconds() == 100.5


def test_averages_ride_along_without_touching_the_training():
    """One training leaves every usual average; the recipe's own comes on top; the last weights do not know of them."""
    ours = BASE.with_(parse("ema:decay=0.5"), tokens=24 * BATCH)
    plain = trained(BASE.with_(tokens=24 * BATCH))
    result = trained(ours)
    assert all(torch.equal(result.weights[n], plain.weights[n]) for n in plain.weights)
    assert len(riding(ours)) == len(riding(BASE)) + 1
    assert set(result.averages) - set(plain.averages) == {'{"ema": {"correct": true, "decay": 0.5, "horizon": 0.05}}'}
    chosen = result.chosen(ours.tenant("average"))
    assert any(not torch.equal(chosen[n], result.weights[n]) for n in chosen)


def test_seeds_differ_and_repeat():
    a = trained(BASE)
    _trained.cache_clear()
    assert same(a, trained(BASE))
    assert not same(a, trained(BASE.with_(seed=1)))
