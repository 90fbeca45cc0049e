"""Arguments and options that several commands share. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from golflab.search.terminal.plain import PlainConsole

Preset = Annotated[str, typer.Argument(help="A preset's name; `golflab presets` lists them.")]
With = Annotated[list[str] | None, typer.Option("--with", help="Technique to switch on: NAME or NAME:knob=value,…")]
Without = Annotated[list[str] | None, typer.Option(help="Technique to switch off.")]
Split = Annotated[str, typer.Option(help="Part of the corpus that is scored: dev, or test (which no search ever sees).")]
Name = Annotated[str, typer.Argument(help="An experiment's name (its folder under --runs), or the path of its folder.")]
Runs = Annotated[Path, typer.Option(help="Folder of experiments.")]
Scale = Annotated[
    str,
    typer.Option(
        help="nano (seconds per run on a CPU core), micro, proxy (about a minute), small (one GPU) or full (the challenge's)."
    ),
]
OwnScale = Annotated[
    str | None,
    typer.Option(
        help="nano (seconds per run on a CPU core), micro, proxy (the default), small or full. Your own space has its own."
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Allow what the experiment's file names to be imported, connected to and written to."),
]
Storage = Annotated[
    str | None,
    typer.Option(help="The experiment's database again, with the password, which is never stored (or set GOLFLAB_STORAGE)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Corpus = Annotated[
    str | None, typer.Option(help="sotu, or the path of text, jsonl, jsonl.zst, a folder of them, or token shards.")
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Run although some of the held-out text is in the training text, too.")
]
Tokens = Annotated[int | None, typer.Option(help="Training tokens of a run; the scale's by default.")]
Pruner = Annotated[
    str,
    typer.Option(
        help="What may stop a run early for its score, once early scores predict the final one: none, median or wilcoxon."
    ),
]
Duration = Annotated[
    float | None, typer.Option(help="Training tokens per parameter of the preset, instead of --tokens: 5, 20, 80 …")
]
PublishedOptimizer = Annotated[
    bool,
    typer.Option(
        "--published-optimizer",
        help="Keep the optimiser as published. By default its rate, momentum and warmdown follow the number of steps.",
    ),
]
Limit = Annotated[int | None, typer.Option(help="Bytes an artifact may have, code included.")]
Seed = Annotated[int, typer.Option(help="Seed of the initial weights, the data order and the proposals.")]
OwnSeed = Annotated[
    int | None,
    typer.Option(help="Seed of the initial weights, the data order and the proposals; 0, or that of your own space."),
]
Address = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster (auto finds it); without it, this machine is used.")
]
Cpus = Annotated[int | None, typer.Option(help="CPU cores of this machine to use; by default all that this process may use.")]
Gpus = Annotated[
    float | None,
    typer.Option(help="GPUs per trial: a fraction shares one, 0 uses none. By default one, if there are any."),
]
Processes = Annotated[
    int | None, typer.Option(help="Processes per trial: each has one GPU or, where there are no GPUs, one core.")
]
LocalDisk = Annotated[
    str | None, typer.Option(help="Folder on each node's own disk, to which token shards are copied once.", show_default=False)
]
Finish = Annotated[
    list[str] | None,
    typer.Option(
        help="Also finish every training with this technique, and compare. mse_clip@int5_rows: with int5_rows on both sides."
    ),
]
Confirm = Annotated[
    int,
    typer.Option(help="Fresh seeds for a final comparison of the best recipe and the preset on the test part.", min=0),
]
Budget = Annotated[
    str | None,
    typer.Option(help="2h, 90m, 300s, 50trainings or 12gpuh. When it is spent, no trial starts; running ones are finished."),
]
Trials = Annotated[int | None, typer.Option(help="Trials in all.")]

out, err = PlainConsole(), PlainConsole(stderr=True)


def took(seconds: float) -> str:
    """A length of time in minutes, or in hours where it is long."""
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def clock_seconds(budget: str | None) -> float:
    """Seconds of a ladder's budget; infinite without one.

    Raises:
        ValueError: it limits something other than time.
    """
    from golflab.search.engine.standing import Budget as Bound

    bound = Bound.parse(budget or "")
    if budget and (math.isinf(bound.seconds) or math.isfinite(bound.trainings) or math.isfinite(bound.gpu_seconds)):
        raise ValueError(f"budget={budget!r}: the budget of a ladder is a time, like 2h or 90m.")
    return bound.seconds


def numbers(text: str) -> list[float]:
    """Durations from the command line.

    Raises:
        ValueError: one is no number above 0.
    """
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise ValueError(f"durations={text!r} must be numbers above 0, joined by commas, like 5,20,80.")
    return found
