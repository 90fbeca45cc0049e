"""The training loop, statement by statement: what is called when, with what, and what is written down."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from types import SimpleNamespace

import pytest
import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from golflab.model.training import loop, process_group, state
from golflab.model.training.loop import source_of, train
from golflab.model.training.state import TrainingState
from tests.contract_helpers import BATCH, TINY, stream
from tests.test_train import LONG

SHAPE = dataclasses.replace(TINY, layers=1)
SHORT = Recipe(SHAPE, LONG.schedule, techniques=(parse("warmdown:fraction=1"), parse("clip_norm"))).with_(tokens=8 * BATCH)
CPU = torch.device("cpu")


class Source:
    """One fixed batch, and what was asked for."""

    def __init__(self):
        self.asked = []

    def batch(self, step, rank=0, world=1):
        self.asked.append((step, rank, world))
        ids = torch.arange(2, 2 + 2 * 33).view(2, 33)
        return ids[:, :-1], ids[:, 1:]


def begun(**change):
    return TrainingState(SHORT.with_(**change), CPU, torch.float32)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only tests move; a step of training takes ``step`` seconds of it."""
    now, honest = {"now": 0.0, "step": 1.0}, loop._gradients

    def gradients(*arguments):
        now["now"] += now["step"]
        return honest(*arguments)

    monkeypatch.setattr("golflab.model.training.clock.time", SimpleNamespace(perf_counter=lambda: now["now"]))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now["now"]))
    monkeypatch.setattr(loop, "_gradients", gradients)
    return now


# ---------------------------------------------------------------------- how far it is


def test_progress_is_by_steps_or_by_the_clock_whichever_is_further():
    run = begun(seconds=10.0)
    assert run.progress() == 0.0
    run.step = 4
    assert run.progress() == 0.5
    run.clock.set(6.0)
    assert run.progress() == 0.6
    run.clock.set(70.0)
    assert run.progress() == 1.0
    assert run.point() == {"step": 4, "tokens": 4 * BATCH, "progress": 1.0, "seconds": 70.0}
    run.recipe = SHORT
    assert run.progress() == 0.5
    run.recipe = SHORT.with_(tokens=None, seconds=140.0)
    run.step = 99
    assert run.progress() == 0.5


@pytest.mark.parametrize(
    ("step", "answered", "due"),
    [(0, 0.0, False), (1, 0.0, False), (2, 0.0, True), (2, 0.25, False), (3, 0.25, False), (3, 0.0, True), (4, 0.25, True),
     (6, 0.5, True), (7, 0.75, False), (7, 0.0, True), (8, 0.0, False)],
)  # fmt: skip
def test_a_rung_is_due_from_its_share_of_the_run_until_it_is_answered(step, answered, due):
    run = begun()
    run.step, run.answered = step, answered
    assert run.due() == due


def test_of_rungs_passed_at_once_only_the_last_is_asked_and_an_unasked_one_is_no_rung(monkeypatch):
    points = []
    run = begun()
    run.step = 5
    assert loop._asked(run, lambda point, model: points.append((point["step"], model))) == ""
    assert points == [(5, run.model)]
    assert (run.answered, [point["step"] for point in run.rungs]) == (0.625, [5])
    assert not run.due()
    run.step = 6
    assert loop._asked(run, None) == ""
    assert (run.answered, len(run.rungs)) == (0.75, 1)
    run.answered = 0.5
    assert loop._asked(run, lambda point, model: "enough") == "enough"
    assert (run.answered, len(run.rungs)) == (0.5, 1)
    monkeypatch.setattr(process_group, "from_first", lambda number, device: 1.0)  # the first process stops
    assert loop._asked(run, None) == "stopped by the first process"
    monkeypatch.setattr(process_group, "from_first", lambda number, device: 0.0)
    assert loop._asked(run, lambda point, model: "not the first process") == ""


def test_the_clock_stands_still_while_a_rung_is_asked(clock):
    run = begun(tokens=None, seconds=10.0)
    run.clock.start()
    clock["now"] += 3.0

    def slow(point, model):
        clock["now"] += 50.0

    loop._asked(run, slow)
    assert (run.clock.seconds(), run.rungs[0]["seconds"]) == (3.0, 3.0)


def test_a_run_is_where_it_was_asked_to_be_and_begins_at_its_initial_weights():
    run = TrainingState(SHORT, torch.device("meta"), torch.float32)
    assert {p.device.type for p in run.parameters} == {"meta"}
    weights = dict(begun().model.named_parameters())
    for name, expected in initialize(GPT(SHORT), SHORT).named_parameters():
        assert torch.equal(weights[name], expected), name


# ---------------------------------------------------------------------- the loop


@pytest.mark.parametrize(
    ("steps", "points", "marks"), [(8, 100, range(1, 9)), (9, 4, [2, 4, 6, 8, 9]), (8, 4, [2, 4, 6, 8]), (7, 1, [7])]
)
def test_the_curve_has_as_many_points_as_asked_and_the_last_step(monkeypatch, steps, points, marks):
    monkeypatch.setattr(loop, "CURVE_POINTS", points)
    losses, heard = iter(range(100)), []
    monkeypatch.setattr(loop, "_gradients", lambda *_: float(next(losses)))
    done = train(SHORT.with_(tokens=steps * BATCH), Source(), on_step=heard.append)
    assert [point["step"] for point in done.curve] == list(marks)
    for before, point in zip([0, *marks], done.curve, strict=False):
        assert point["tokens"] == point["step"] * BATCH
        assert point["loss"] == (before + point["step"] - 1) / 2  # the mean since the last point
    assert heard == done.curve
    assert (done.tokens, done.stopped, done.graphs) == (steps * BATCH, "", 0)


def test_a_run_bounded_by_the_clock_has_a_point_every_ten_steps_and_stops_on_time(clock):
    done = train(SHORT.with_(tokens=None, seconds=22.5), Source())
    assert [point["step"] for point in done.curve] == [10, 20, 23]
    assert [point["seconds"] for point in done.curve] == [10.0, 20.0, 23.0]
    clock["step"] = 0.31234
    assert train(SHORT.with_(tokens=None, seconds=0.3), Source()).curve[-1]["seconds"] == 0.312


def test_a_run_that_is_stopped_gets_no_further_point(monkeypatch):
    monkeypatch.setattr(loop, "CURVE_POINTS", 1)
    done = train(SHORT, Source(), on_rung=lambda point, model: "no" if point["step"] == 4 else None)
    assert (done.stopped, done.curve, done.tokens) == ("no", [], 4 * BATCH)
    assert [point["step"] for point in done.rungs] == [2]


def test_schedules_are_read_before_a_step_and_averages_after_it(monkeypatch):
    calls, source = [], Source()

    def spy(name, owner, attribute, shown):
        honest = getattr(owner, attribute)

        def told(*arguments):
            calls.append((name, *shown(*arguments)))
            return honest(*arguments)

        monkeypatch.setattr(owner, attribute, told)

    class Clip:
        def build(self, shape):
            return lambda parameters: calls.append(("clip", all(p.grad is not None for p in parameters)))

    class Fake:
        def update(self, multiplier):
            calls.append(("fake", multiplier))

    honest = Recipe.build
    clipping = lambda recipe, slot, layer=None: Clip().build(None) if slot == "clip_grad" else honest(recipe, slot, layer)
    monkeypatch.setattr(Recipe, "build", clipping)
    monkeypatch.setattr(loop, "_watchers", lambda recipe, model: (Fake(), []))
    spy("progress", state.GPT, "set_progress", lambda model, progress: (progress,))
    spy("gradients", loop, "_gradients", lambda run, forward, source, penalties, multiplier, micro, length: (multiplier, micro))
    spy("update", state.Optimizers, "step", lambda optimizers, multiplier, progress: (multiplier, progress))
    average = SimpleNamespace(
        sums=[],
        value=lambda: None,
        update=lambda weights, step, progress, multiplier: calls.append(("average", step, progress, multiplier)),
        start=lambda weights: calls.append(("start", len(weights))),
    )
    technique = SimpleNamespace(build=lambda shape: average)
    monkeypatch.setattr(state, "kept_averages", lambda recipe: [technique])
    done = train(SHORT.with_(tokens=2 * BATCH), source)
    assert done.averages == {}  # it collected nothing
    begin = calls.index(("start", len(done.weights)))
    micro = SHORT.schedule.micro_tokens
    expected = []
    for step, (progress, after) in enumerate(((0.0, 0.5), (0.5, 1.0))):
        multiplier = 1.0 - progress
        expected += [("progress", progress), ("fake", multiplier), ("gradients", multiplier, micro), ("clip", True)]
        expected += [("update", multiplier, progress), ("average", step + 1, after, multiplier)]
    assert calls[begin + 1 :] == expected
    assert source.asked == [(0, 0, 1), (1, 0, 1)]


def test_fewer_tokens_in_flight_may_be_asked_for(monkeypatch):
    seen, honest = [], loop._micro_batches
    noting = lambda ids, targets, micro, length: seen.append(micro) or honest(ids, targets, micro, length)
    monkeypatch.setattr(loop, "_micro_batches", noting)
    train(SHORT.with_(tokens=BATCH), Source(), micro_tokens=32)
    train(SHORT.with_(tokens=BATCH), Source())
    assert seen == [32, SHORT.schedule.micro_tokens]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_compiled_training_is_primed_with_its_first_batch_and_uses_what_was_compiled(monkeypatch, compiled):
    told, source, within = [], Source(), []

    def compile_all(model, parts, fake):
        told.append(([ids.shape for ids, _ in parts], fake, bool(within)))
        return (lambda ids, targets: told.append("forward") or model(ids, targets)), ["a", "b"]

    @contextlib.contextmanager
    def compiling():
        within.append(1)
        yield
        within.clear()

    monkeypatch.setattr(loop, "compile_all", compile_all)
    monkeypatch.setattr(loop, "compiling", compiling)
    done = train(SHORT.with_(tokens=BATCH, micro_tokens=32), source, compiled=compiled)
    assert done.graphs == (2 if compiled else 0)
    assert told == ([([(1, 32), (1, 32)], None, True), "forward", "forward"] if compiled else [])
    assert source.asked == [(0, 0, 1)] * (2 if compiled else 1)
    assert not within


# ---------------------------------------------------------------------- checkpoints


def test_checkpoints_are_written_every_so_often_and_cost_no_time_on_the_clock(tmp_path, clock, monkeypatch):
    saved, honest = [], TrainingState.save

    def save(run, path):
        saved.append((run.step, path.name))
        clock["now"] += 100.0
        honest(run, path)

    monkeypatch.setattr(TrainingState, "save", save)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 20.0)
    clock["step"] = 10.0
    train(SHORT.with_(tokens=4 * BATCH), Source(), checkpoint=tmp_path / "exactly")
    assert saved == [(3, "exactly")]
    saved.clear()
    clock["step"] = 10.25
    done = train(SHORT.with_(tokens=7 * BATCH), Source(), checkpoint=tmp_path / "c")
    assert saved == [(step, "c") for step in (2, 4, 6)]  # more than 20 seconds after the last one
    assert done.seconds == 71.75
    saved.clear()
    train(SHORT.with_(tokens=6 * BATCH), Source())
    assert saved == []


def test_a_full_disk_costs_the_checkpoint_and_is_noted_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(state, "write_tensors", full)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    done = train(SHORT, Source(), checkpoint=tmp_path / "c")
    assert done.notes == ["a checkpoint could not be written: No space left on device"]
    assert done.tokens == 8 * BATCH


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    run = begun()
    for rank in (1, 0):
        monkeypatch.setattr(process_group, "rank_and_size", lambda rank=rank: (rank, 1))
        run.save(tmp_path / "c")
        assert (tmp_path / "c").exists() == (rank == 0)


def test_a_checkpoint_brings_back_all_that_a_run_has_written_down(tmp_path):
    run, other = begun(), begun()
    assert run.load(tmp_path / "none") is False
    assert run.notes == []
    run.step, run.curve, run.losses, run.notes = 3, [{"step": 2, "loss": 1.5}], [0.5], ["a note"]
    run.rungs, run.answered = [{"step": 2}], 0.25
    run.clock.set(7.0)
    run.save(tmp_path / "c")
    assert other.load(tmp_path / "c") is True
    for name in ("step", "curve", "losses", "notes", "rungs", "answered"):
        assert getattr(other, name) == getattr(run, name), name
    assert other.clock.seconds() == 7.0
    (tmp_path / "c").write_bytes(b"damaged")
    again = begun()
    assert again.load(tmp_path / "c") is False
    assert again.notes == ["its checkpoint was damaged; the training began again"]


@pytest.mark.parametrize("there", [True, False])
def test_processes_that_see_different_checkpoints_do_not_begin(tmp_path, monkeypatch, there):
    run = begun()
    run.step = 5
    if there:
        run.save(tmp_path / "c")
    monkeypatch.setattr(process_group, "from_first", lambda number, device: 5.0 if there else 0.0)
    assert run.load(tmp_path / "c") == there
    monkeypatch.setattr(process_group, "from_first", lambda number, device: 6.0)
    with pytest.raises(RuntimeError, match="is not the same on all nodes"):
        run.load(tmp_path / "c")


# ---------------------------------------------------------------------- gradients


def test_a_steps_gradient_is_the_losss_and_the_penalties_and_nothing_of_the_step_before():
    run, source = begun(), Source()
    penalty = lambda multiplier: multiplier * (run.parameters[0] ** 2).sum()

    def gradient(penalties, multiplier, micro_tokens):
        loss = loop._gradients(run, run.model, source, penalties, multiplier, micro_tokens)
        return loss, run.parameters[0].grad.clone()

    (plain, without), (again, same) = gradient([], 0.5, BATCH), gradient([], 0.5, BATCH)
    assert plain == again
    assert torch.equal(without, same)
    loss, added = gradient([penalty, penalty], 0.5, 32)  # in two micro-batches
    assert loss == pytest.approx(plain, rel=1e-5)
    torch.testing.assert_close(added - without, 2 * run.parameters[0].detach(), rtol=1e-3, atol=1e-5)


def test_several_processes_share_the_mean_of_their_gradients_but_for_what_an_optimiser_shares_itself(monkeypatch):
    """The sum over two processes, where the other one has three times this one's gradient, is four times it."""
    run, source = begun(), Source()
    alone = loop._gradients(run, run.model, source, [], 1.0, BATCH)
    before = [None if p.grad is None else p.grad.clone() for p in run.parameters]
    own = next(i for i, p in enumerate(run.parameters) if p.grad is not None)
    run.optimizers.own_reduction = {id(run.parameters[own])}
    monkeypatch.setattr(process_group, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(loop.dist, "all_reduce", lambda tensor: tensor.mul_(4))
    assert loop._gradients(run, run.model, source, [], 1.0, BATCH) == 2 * alone
    assert source.asked == [(0, 0, 1), (0, 1, 2)]
    for i, (old, p) in enumerate(zip(before, run.parameters, strict=True)):
        assert (old is None) == (p.grad is None)
        if old is not None:
            assert torch.equal(p.grad, old if i == own else 2 * old)


def test_the_first_process_has_the_word(monkeypatch):
    def broadcast(tensor, source):
        assert (tensor.dtype, source) == (torch.float64, 0)
        tensor.fill_(0.1)

    monkeypatch.setattr(process_group.dist, "broadcast", broadcast)
    assert process_group.from_first(7.0, CPU) == 7.0  # alone, nobody is asked
    monkeypatch.setattr(process_group, "rank_and_size", lambda: (1, 2))
    assert process_group.from_first(7.0, CPU) == 0.1
    monkeypatch.setattr(process_group, "rank_and_size", lambda: (0, 1))
    assert [process_group.stop_reason(reason, CPU) for reason in ("why", "", None)] == ["why", "", ""]


def test_watchers_are_attached_to_the_model_and_the_controller_last():
    recipe = SHORT.with_(parse("int4_rows"), parse("ste_qat"), parse("crown_q"))
    run, attached = TrainingState(recipe, CPU, torch.float32), []
    built = {slot: type(recipe.build(slot)) for slot in ("fake_quant", "schedule")}
    assert SHORT.build("fake_quant") is None
    with pytest.MonkeyPatch.context() as patch:
        penalty = type(recipe.techniques_in("penalty")[0].build(SHAPE))
        for kind in (built["fake_quant"], penalty):
            patch.setattr(kind, "attach", lambda self, model, recipe: attached.append((type(self), model)))
        fake, penalties = loop._watchers(recipe, run.model)
    assert type(fake) is built["fake_quant"]
    assert [type(p) for p in penalties] == [penalty]
    assert attached == [(penalty, run.model), (built["fake_quant"], run.model)]
    assert loop._watchers(SHORT, run.model) == (None, [])


def test_the_source_reads_the_recipes_batches_with_its_seed():
    recipe = SHORT.with_(seed=3)
    one, same, other = (source_of(r, stream()).batch(0)[0] for r in (recipe, recipe, SHORT))
    assert torch.equal(one, same)
    assert one.shape == (2, 32)
    assert not torch.equal(one, other) or recipe.technique_in("batches").name == "sequential"
