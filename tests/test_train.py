"""The training loop: it learns, resumes exactly, stops when told, and says when it cannot go on."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from golflab.model.data.batches import Batches
from golflab.model.recipe import Recipe
from golflab.model.system.tensors import read_tensors
from golflab.model.technique import parse
from golflab.model.training import loop
from golflab.model.training.clock import Clock
from golflab.model.training.loop import train
from golflab.model.training.result import TrainingFailed, kept_averages
from golflab.model.training.state import TrainingState
from tests.contract_helpers import BASE, BATCH, TINY, _trained, stream, trained

LONG = BASE.with_(parse("ema"), parse("adam_groups:weight_decay=0.01"), parse("clip_norm"), tokens=40 * BATCH)
KILLED = """
import sys, pathlib
import golflab.model.training.loop, tests.test_train as t
golflab.model.training.loop.CHECKPOINT_SECONDS = 0.0
t.train(t.LONG, t.source(t.LONG), checkpoint=pathlib.Path(sys.argv[1]), on_step=lambda p: print(p["step"], flush=True))
"""


def source(recipe) -> Batches:
    return recipe.build("batches")(stream(), recipe.schedule.batch_tokens, recipe.seed)


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
    """Half the run, a new `TrainingState` from its checkpoint, the other half: weights, averages and curve are identical."""
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
    now[0] += 9.0
    clock.start()
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
    assert len(kept_averages(ours)) == len(kept_averages(BASE)) + 1
    assert set(result.averages) - set(plain.averages) == {'{"ema": {"correct": true, "decay": 0.5, "horizon": 0.05}}'}
    chosen = result.chosen(ours.technique_in("average"))
    assert any(not torch.equal(chosen[n], result.weights[n]) for n in chosen)


def test_seeds_differ_and_repeat():
    a = trained(BASE)
    _trained.cache_clear()
    assert same(a, trained(BASE))
    assert not same(a, trained(BASE.with_(seed=1)))


# ---------------------------------------------------------------------- resumed runs


class Interrupted(BaseException):
    """What a kill looks like from inside: nothing of ours catches it."""


@pytest.fixture
def time_of(monkeypatch):
    """A clock that only tests move: ``time_of["now"]``; a step of training takes a second of it."""
    now, honest = {"now": 0.0, "step": 1.0}, loop._gradients

    def gradients(*arguments):
        now["now"] += now["step"]
        return honest(*arguments)

    monkeypatch.setattr("golflab.model.training.clock.time", SimpleNamespace(perf_counter=lambda: now["now"]))
    monkeypatch.setattr(loop, "_gradients", gradients)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after every step
    return now


SHORT = Recipe(dataclasses.replace(TINY, layers=1), LONG.schedule, techniques=(parse("ema"), parse("clip_norm"))).with_(
    tokens=8 * BATCH
)


def killed_at(step):
    def on_step(point):
        if point["step"] == step:
            raise Interrupted

    return on_step


@pytest.mark.parametrize("killed", [1, 7, 12])
def test_a_resumed_run_goes_on_with_the_clock_and_does_not_pay_for_loading_and_compiling(
    tmp_path, time_of, monkeypatch, killed
):
    def compile_slowly(model, parts, fake):
        time_of["now"] += 15.0
        return model, ["a graph"]

    monkeypatch.setattr(loop, "compile_all", compile_slowly)
    monkeypatch.setattr(loop, "CURVE_POINTS", 1000)
    recipe, path = SHORT.with_(tokens=None, seconds=12.0), tmp_path / "c"
    whole = train(recipe, source(recipe), compiled=True)
    assert (whole.tokens, whole.seconds, whole.curve[-1]["seconds"]) == (12 * BATCH, 12.0, 12.0)
    with pytest.raises(Interrupted):
        train(recipe, source(recipe), compiled=True, checkpoint=path, on_step=killed_at(killed))
    time_of["now"] += 100.0
    resumed = train(recipe, source(recipe), compiled=True, checkpoint=path)
    assert (resumed.tokens, resumed.seconds) == (whole.tokens, whole.seconds)
    assert resumed.curve == whole.curve
    assert same(resumed, whole)


def test_the_clock_stands_still_until_it_is_started_and_while_it_is_paused(time_of):
    clock = Clock()
    time_of["now"] += 5.0
    with clock.paused():
        time_of["now"] += 5.0
    assert clock.seconds() == 0.0
    clock.set(3.0)
    clock.start()
    time_of["now"] += 2.0
    with clock.paused():
        time_of["now"] += 7.0
        assert clock.seconds() == 5.0
    time_of["now"] += 1.0
    assert clock.seconds() == 6.0


@pytest.mark.parametrize("rung", [0, 1, 2])
@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
def test_a_run_killed_at_a_rung_is_asked_there_again_and_forgets_no_other(tmp_path, time_of, rung, moment):
    def answer(point, model):
        point["bpb"] = float(model.table.weight.detach().abs().sum())

    whole, path, asked = train(SHORT, source(SHORT), on_rung=answer), tmp_path / "c", []

    def dies(point, model):
        answer(point, model)
        asked.append(point["step"])
        if len(asked) == rung + 1 and moment == "before the answer":
            raise Interrupted

    last = 2 * (rung + 1) + 1
    on_step = None if moment == "before the answer" else killed_at(last + 1)
    with pytest.raises(Interrupted):
        train(SHORT, source(SHORT), checkpoint=path, on_rung=dies, on_step=on_step)
    again = train(SHORT, source(SHORT), checkpoint=path, on_rung=dies)
    twice = [2 * (rung + 1)] if moment == "before the answer" else []
    assert asked == sorted([2, 4, 6, *twice])
    assert [point["step"] for point in again.rungs] == [2, 4, 6]
    assert again.rungs == whole.rungs
    assert same(again, whole)


def test_everything_a_checkpoint_holds_goes_where_the_run_is(tmp_path):
    """Fused Adam wants its count of steps, a tensor without dimensions, on the device of the parameters."""
    recipe, path = SHORT, tmp_path / "c"
    run = TrainingState(recipe, torch.device("cpu"), torch.float32)
    loop._gradients(run, run.model, source(recipe), [], 1.0, BATCH)
    run.optimizers.step(1.0, 0.0)
    run.save(path)
    elsewhere, taken = TrainingState(recipe, torch.device("cpu"), torch.float32), {}
    elsewhere.device = torch.device("meta")
    elsewhere.optimizers.load = taken.update
    assert elsewhere.load(path)
    assert {tensor.dim() for tensor in taken.values()} >= {0, 2}
    assert {tensor.device.type for tensor in taken.values()} == {"meta"}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("what", ["weights", "average"])
def test_weights_that_are_not_finite_at_the_very_end_end_the_run(monkeypatch, value, what):
    honest = TrainingState.result

    def spoiled(self, stopped):
        tensors = self.parameters if what == "weights" else self.averages[0][1].sums
        with torch.no_grad():
            tensors[3].view(-1)[0] = value
        return honest(self, stopped)

    monkeypatch.setattr(TrainingState, "result", spoiled)
    recipe = SHORT.with_(tokens=2 * BATCH)
    with pytest.raises(TrainingFailed, match=r"after step 2, the last, .* holds NaN or infinity"):
        train(recipe, source(recipe))


# ---------------------------------------------------------------------- micro-batches


@pytest.mark.parametrize(("rows", "held"), [(1, 1), (3, 2), (5, 2), (7, 3), (8, 8), (4, 100)])
def test_a_batch_is_cut_into_as_few_parts_as_fit(rows, held):
    ids = torch.arange(rows * 4).view(rows, 4)
    parts = loop._micro_batches(ids, ids + 1, held * 4)
    assert len(parts) == -(-rows // held) if held < rows else len(parts) == 1
    assert max(part.size(0) for part, _ in parts) <= held
    assert torch.equal(torch.cat([part for part, _ in parts]), ids)
    assert torch.equal(torch.cat([part for _, part in parts]), ids + 1)


def test_unequal_micro_batches_count_by_their_rows():
    """Three rows as two and one: the gradient and the loss are those of the three together."""
    recipe = BASE.with_(batch_tokens=3 * TINY.context, micro_tokens=3 * TINY.context)
    found = []
    for micro_tokens in (3 * TINY.context, 2 * TINY.context):
        run = TrainingState(recipe, torch.device("cpu"), torch.float32)
        run.model.double()
        run.model.dtype = torch.float64
        loss = loop._gradients(run, run.model, source(recipe), [], 1.0, micro_tokens)
        found.append((loss, [None if p.grad is None else p.grad.clone() for p in run.parameters]))
    (loss, whole), (other, parts) = found
    assert other == pytest.approx(loss, rel=1e-6)
    for a, b in zip(whole, parts, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)
