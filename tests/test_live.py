"""What a user sees of a search: on a terminal, and where nobody watches one."""

from __future__ import annotations

import io
import json
import os
from types import SimpleNamespace

import pytest
from fake_runs import run
from rich.console import Console

from golflab.model.record import Record
from golflab.model.technique import parse
from golflab.search.engine.halving import Halving, shorter
from golflab.search.engine.running import EVERY, FILE, Reporter, in_words, running_state
from golflab.search.engine.session import run_safely
from golflab.search.engine.standing import Budget, Opening, Standing, standing_of
from golflab.search.experiment.clock import Clock
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.experiment_file import read_experiment, write_experiment
from golflab.search.experiment.folder import begin, create
from golflab.search.experiment.start import asked
from golflab.search.sampler.proposal import Proposal
from golflab.search.terminal import show
from golflab.search.terminal.live_table import HEARTBEAT, LiveTable
from golflab.search.upkeep.status import status_of
from golflab.spaces.difference import against
from golflab.spaces.presets import preset
from tests.made import FAKE

BASE = preset("baseline")
BEST = BASE.with_(parse("xsa:last=2")).with_(parse("smear_gate"))
LONG = BEST.with_(*map(parse, ("ln_scale", "partial_rope:dims=8", "gated_attention", "value_residual", "bigram_hash", "ema")))


class Time:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def record(recipe, bpb=None, state="complete", reason="", size=612_345):
    return Record(recipe.hash, recipe.seed, recipe.name, state, recipe.to_json(), bpb=bpb, bytes=size, reason=reason)


def table_at(folder, width, clock, terminal=True, budget="", **standing):
    """A table after a resume: two trials have ended, and the best one is the second."""
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    table = LiveTable(BASE, 24, console, clock)
    now = Standing(**{"done": 2, "target": 24, "seconds": 754.0, "budget": Budget.parse(budget), "left": 3600.0} | standing)
    table.opened(Opening("mine", folder, "golflab resume mine", budget, now, [(0, record(BASE, 2.31)), (2, record(BEST, 2.1))]))
    return table


def shown(table):
    """What is on the screen now."""
    table.console.file.seek(0)
    table.console.file.truncate()
    table.console.print(table)
    return table.console.file.getvalue()


def running(folder, recipe, clock, step=120, steps=400):
    """A trial's worker at work."""
    (folder / "trials" / recipe.hash).mkdir(parents=True, exist_ok=True)
    told = Reporter(folder / "trials" / recipe.hash, clock)
    told("preparing", {})
    told.point({"loss": 5.1234, "tokens": 409_600, "seconds": 30.0})
    told("training", {"step": step, "steps": steps, "seconds": None, "batch_tokens": 4096})
    return told


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_the_terminal_and_gives_each_trial_one_line(tmp_path, width):
    clock = Time()
    table = table_at(tmp_path, width, clock, budget="2h,50trainings", spent={"trainings": 5, "seconds": 700.0})
    table.started(Proposal(5, LONG, {}))
    table.started(Proposal(6, LONG.with_(seed=3), {}))
    table.finished(4, record(LONG.with_(seed=2), state="pruned", reason="18,541 bytes over the limit at 75% of the run"))
    running(tmp_path, LONG, clock, 12_345, 20_000)
    clock.now += 33
    lines = shown(table).splitlines()
    assert max(map(len, lines)) <= width
    for number in (0, 2, 4, 5, 6):
        assert len([line for line in lines if line.split()[:1] == [str(number)]]) == 1
    if width >= 80:
        assert (
            " ".join(next(line for line in lines if line.startswith("    5")).split()[1:6])
            == "training 12345/20000 5.123 14k 0:20"
        )
    assert "\n".join(lines).count("best ") >= 2


def test_it_shows_the_stage_the_step_the_loss_and_the_speed_of_each_trial(tmp_path):
    clock = Time()
    table = table_at(tmp_path, 120, clock)
    table.started(Proposal(5, LONG, {}))
    assert "5 waiting" in shown(table)
    told = running(tmp_path, LONG, clock)
    for stage in ("compiling", "training", "measuring", "packing", "scoring", "finishing"):
        told(stage, {"step": 120, "steps": 400, "seconds": None, "batch_tokens": 4096} if stage == "training" else {})
        assert f"5 {stage}" in shown(table)
    told("scoring", {"progress": 0.4})
    clock.now += EVERY
    told("scoring", {"progress": 0.45})
    assert "5 scoring 45%" in shown(table)


def test_each_trial_says_what_differs_from_the_best_which_is_marked(tmp_path):
    table = table_at(tmp_path, 100, Time())
    lines = shown(table).splitlines()
    assert lines[1].split() == ["0", "2.3100", "612,345", "complete", "-smear_gate", "-xsa"]
    assert lines[2].split() == ["2", "2.1000", "612,345", "best", "+smear_gate", "+xsa:last=2"]
    table.finished(3, record(BEST.with_(parse("ln_scale")), 2.05))
    lines = shown(table).splitlines()
    assert lines[2].split() == ["2", "2.1000", "612,345", "complete", "-ln_scale"]
    assert lines[3].split()[3] == "best"
    table.finished(4, record(BASE, 1.9, size=10**9))
    assert shown(table).splitlines()[4].split()[3] == "complete"  # over the limit: never the best


def test_what_differs_names_techniques_knobs_shape_and_seed():
    assert against(BEST, BEST) == "(the same)"
    assert against(BASE, BEST) == "-smear_gate -xsa"
    assert against(BEST.with_(parse("xsa:last=4")), BEST) == "xsa.last=4"
    assert against(BEST.with_(seed=3, layers=6), BEST) == "layers=6 seed=3"


@pytest.mark.parametrize(
    ("budget", "seconds", "gpus", "left", "bound"),
    [
        ("", 100.0, 0, 400, "trials"),
        ("2h", 100.0, 0, 400, "trials"),
        ("3m", 100.0, 0, 80, "time"),
        ("3trainings", 100.0, 0, 50, "trainings"),
        ("0.02gpuh", 100.0, 1, 140, "GPU hours"),
        ("2trainings", 100.0, 0, 0, "trainings"),
    ],
)
def test_the_time_left_ends_with_whatever_bound_comes_first(budget, seconds, gpus, left, bound):
    """Two of ten trials in 100 seconds, both trained, 30 seconds each."""
    counts = {"complete": 1, "pruned": 1, "failed": 0, "trained": 2}
    ledger = SimpleNamespace(counts=lambda: counts, spent=lambda: {"trainings": 3.0, "seconds": 30.0}, target=10)
    now = standing_of(ledger, Budget.parse(budget), seconds, gpus)
    assert (now.done, now.target, now.bound) == (2, 10, bound)
    assert now.left == pytest.approx(left)


def test_the_pace_of_this_driver_counts_once_it_has_finished_some():
    counts = {"complete": 4, "pruned": 0, "failed": 0, "trained": 4}
    ledger = SimpleNamespace(counts=lambda: counts, spent=lambda: {"trainings": 4.0, "seconds": 30.0}, target=10)
    assert standing_of(ledger, Budget(), 1000.0, 0).left == pytest.approx(1500)
    assert standing_of(ledger, Budget(), 1000.0, 0, (2, 20.0)).left == pytest.approx(60)


def begun(runs, **more):
    """An experiment of nine trials, of which none has run: its options, what it is, and its ledger."""
    options = asked(FAKE | {"name": "w", "runs": str(runs), "trials": 9} | more, None)
    own = begin(options, None)
    create(options, own, None)
    return options, own, open_ledger(options, own.study)


def test_after_a_resume_it_goes_on_where_it_was(tmp_path):
    options, own, book = begun(tmp_path, budget="2h")
    for _ in range(3):
        proposal = book.propose()
        book.finish(proposal.number, run(proposal.recipe, book.trial_folder(proposal.recipe.hash), tmp_path / "cache"))
    write_experiment(options.folder, read_experiment(options.folder) | {"seconds": 500.0})
    clock = Clock(options, book, None, own)
    table = LiveTable(BASE, 9, Console(file=io.StringIO(), width=100, force_terminal=True), Time())
    table.opened(clock.opening(table.shown))
    text = shown(table)
    best = book.best()
    number = next(t.number for t in book.study.trials if t.user_attrs["recipe"] == best.recipe)
    assert f"w: 3 of 9 done, best {best.bpb:.4f} (trial {number}), 8:20, about 16:" in text
    assert "spent: 3 trainings; budget left: 1:51:" in text
    assert text.count("complete") + text.count(" best ") >= 3
    table.expects(4)  # of the confirmation, whose time is not known yet
    assert "w: 3 of 13 done" in shown(table)
    assert " left" not in shown(table).split("w: 3 of 13 done")[1].split("\n")[0]
    book.presence.leave()


def test_rays_start_is_shown_with_its_seconds(tmp_path):
    clock = Time()
    table = table_at(tmp_path, 80, clock)
    table.starting("starting Ray")
    clock.now += 7.4
    assert "starting Ray … 7 s" in shown(table)
    table.placed("2 workers, one core each")
    assert "2 workers, one core each (starting Ray took 7 s)." in table.console.file.getvalue()
    assert "starting Ray …" not in shown(table)


def test_where_nobody_watches_a_terminal_little_is_said(tmp_path):
    """One line each: what goes on, Ray's start, where it runs, every finished trial; and a heartbeat a minute."""
    clock = Time()
    table = table_at(tmp_path, 80, clock, terminal=False)
    with table:
        table.starting("starting Ray")
        clock.now += 4
        table.placed("2 workers, one core each")
        table.started(Proposal(5, LONG, {}))
        running(tmp_path, LONG, clock)
        for _ in range(int(2 * HEARTBEAT)):
            clock.now += 1
            table.tick()
        table.finished(5, record(LONG, 2.05))
        table.tick()
        clock.now += HEARTBEAT
        table.tick()
    lines = table.console.file.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "mine continues: 2 of 24 done, best 2.1000 (trial 2), 12:34, about 1:00:00 left."
    assert lines[1:3] == ["Starting Ray …", "2 workers, one core each (starting Ray took 4 s)."]
    for line in lines[3:5]:
        assert line.startswith(
            "running: trial 5 training, step 120 of 400, loss 5.123, 13,653 tokens/s. 2 of 24 done, best 2.1"
        )
    assert lines[5].split()[:9] == ["3", "trial", "5", "complete", "2.0500", "bpb", "612,345", "bytes", "120.0"]
    assert "the best so far" in lines[5]


def test_the_end_is_said_once(tmp_path):
    table = table_at(tmp_path, 80, Time())
    assert "Ctrl-C stops" in shown(table)
    table.__exit__()
    text = shown(table)
    assert "Ctrl-C stops" not in text
    assert "left" not in text


# ---------------------------------------------------------------------- the file in a trial's folder


def test_a_report_is_written_at_most_once_a_second_and_removed_at_the_end(tmp_path):
    clock, written = Time(), []
    told = Reporter(tmp_path, clock)
    for step in range(100):
        told("training", {"step": step, "steps": 400, "seconds": None, "batch_tokens": 10})
        clock.now += 0.1
        stamp = (tmp_path / FILE).stat().st_ino
        written += [] if stamp in written[-1:] else [stamp]
    assert len(written) == 10
    body = json.loads((tmp_path / FILE).read_text())
    assert body["tokens_per_second"] == pytest.approx(100)
    told.close()
    assert list(tmp_path.iterdir()) == []


def test_a_training_bounded_by_seconds_tells_how_far_it_is(tmp_path):
    clock = Time()
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    told = Reporter(folder, clock)
    told("training", {"step": 0, "steps": None, "seconds": 20.0, "batch_tokens": 10})
    clock.now += 5
    told("training", {"step": 50, "steps": None, "seconds": 20.0, "batch_tokens": 10})
    state = running_state(tmp_path, "a")
    assert (state["step"], state["progress"]) == (50, 0.25)
    assert "steps" not in state
    assert in_words(state) == "training, step 50, 100 tokens/s"


@pytest.mark.parametrize("body", ["", "{", "[]", '{"stage": 3}', '{"stage": "mining"}', "[" * 5000])
def test_what_somebody_else_put_there_is_no_state(tmp_path, body):
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    (folder / FILE).write_text(body)
    assert running_state(tmp_path, "a") == {"stage": "waiting"}


def test_values_that_are_no_numbers_are_left_out_and_a_pipe_holds_nobody_up(tmp_path):
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    (folder / FILE).write_text('{"stage": "training", "step": "7", "loss": NaN, "steps": true, "progress": 0.5}')
    assert running_state(tmp_path, "a") == {"stage": "training", "progress": 0.5}
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)
    assert running_state(tmp_path, "a") == {"stage": "waiting"}
    assert running_state(tmp_path, "none") == {"stage": "waiting"}


# ---------------------------------------------------------------------- status


def test_status_tells_what_each_trial_does_while_a_driver_lives(tmp_path):
    options, own, book = begun(tmp_path)
    Clock(options, book, None, own).save("running")
    proposal = book.propose()
    running(options.folder, proposal.recipe, Time())
    (row,) = status_of(options.folder)["running"]
    assert (row["stage"], row["step"], row["steps"], row["loss"]) == ("training", 120, 400, 5.1234)
    console = Console(file=io.StringIO(), width=300)
    show.status(console, status_of(options.folder))
    assert "training, step 120 of 400, loss 5.123, 13,653 tokens/s" in console.file.getvalue()
    book.presence.leave()
    (row,) = status_of(options.folder)["running"]
    assert "stage" not in row


def test_an_interruption_and_how_to_go_on_are_said_once():
    counts = dict.fromkeys(("complete", "pruned", "failed", "trained", "not_fitting", "asked"), 1)
    told = {"name": "w", "state": "interrupted", "reason": "interrupted; continue with `golflab resume w`", "trials": 3}
    told |= {"counts": counts, "seconds": 1.0, "spent": {}, "rungs": [], "best": None, "running": [], "failed": []}
    console = Console(file=io.StringIO(), width=300)
    show.status(console, told | {"resume": "golflab resume w"})
    text = console.file.getvalue()
    assert (text.count("interrupted"), text.count("golflab resume w")) == (1, 1)
    show.status(console, told | {"reason": "", "resume": "golflab resume w"})
    assert console.file.getvalue().count("golflab resume w") == 2


def test_a_shorter_schedule_tells_its_trials_file(tmp_path):
    seen = []

    def runner(recipe, folder, cache, **settings):
        settings["on_stage"]("preparing", {})
        settings["on_stage"]("training", {"step": 1, "steps": recipe.schedule.steps, "seconds": None, "batch_tokens": 1})
        seen.append(running_state(tmp_path, BASE.hash).get("steps", 0))
        return run(recipe, folder, cache)

    halving = Halving(runner, run_safely, 4)
    done = run_safely(halving, BASE, tmp_path / "trials" / BASE.hash, tmp_path / "cache", lambda rung: None)
    assert done.state == "complete"
    assert seen == [r.schedule.steps for r in (*shorter(BASE, 4), BASE)]
    assert not list(tmp_path.rglob(f"*{FILE}*"))
