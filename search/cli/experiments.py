"""Commands that manage experiments: list, copy, rename, delete and repair."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from golflab.model.system.wording import number_of
from golflab.search.cli.arguments import Json, Name, Runs, Storage, Trust, err, out
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

app = typer.Typer()
NewName = Annotated[str, typer.Argument(help="The new name: that of a folder next to the old one.")]


@app.command("list")
def list_(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List the experiments: state, trials done and wanted, the best score, and when each was last written to."""
    from golflab.search.upkeep.listing import Listed, listed

    found = listed(runs.resolve())
    if as_json:
        show.emit([one.json() for one in found])
        return

    def row(one: Listed) -> list[str]:
        wanted = "–" if one.trials is None else str(one.trials)
        return [one.name, one.state, f"{one.done} of {wanted}", "–" if one.best is None else f"{one.best:.4f}", _ago(one.age)]

    shown = [each for one in found for each in (one, *one.nested)]
    columns = {"name": "left", "state": "left", "trials": "right", "best bpb": "right", "last written": "right"}
    out.print(show.table(f"Experiments in {runs}", columns, [row(one) for one in shown]))
    for one in shown:
        if one.reason:
            say(err, one.reason)
        if one.damaged:
            say(err, f"{one.name}: {number_of(one.damaged, 'damaged record')} left out; see `golflab status {one.name}`.")


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


@app.command()
def copy(name: Name, new: NewName, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Copy an experiment with its study and records. The copy continues on its own and does not touch the original."""
    from golflab.search.upkeep import folders

    done = folders.copy(name, new, runs.resolve())
    if as_json:
        show.emit(
            {"folder": str(done.folder), "files": done.files, "bytes": done.bytes, "left": done.left, "notes": done.notes}
        )
        return
    say(out, f"{done.folder}: {number_of(done.files, 'file')}, {done.bytes / 1e6:,.1f} MB.")
    if done.left:
        say(out, f"Left out, because they are no ordinary files: {', '.join(done.left)}.")
    for note in done.notes:
        say(out, note)


@app.command()
def rename(name: Name, new: NewName, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Rename an experiment. It must not be running."""
    from golflab.search.upkeep import folders

    folder = folders.rename(name, new, runs.resolve())
    show.emit({"folder": str(folder)}) if as_json else say(out, str(folder))


@app.command()
def delete(
    name: Name,
    runs: Runs = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete an experiment, after printing what will be deleted. The stage cache and your own files in its folder stay."""
    from golflab.search.upkeep import folders

    what = folders.deletion(name, runs.resolve())
    for line in what.sentences():
        say(err, line)
    if not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise ValueError("delete asks first, and this is no terminal, so nobody can answer; give --yes.")
            if not typer.confirm("Delete it?", err=True):
                raise SystemExit(1)
        folders.delete(what)
    body = {"folder": str(what.folder), "deleted": not dry_run, "trials": what.trials, "files": what.files}
    body |= {"bytes": what.bytes, "nested": what.nested, "stays": what.theirs}
    show.emit(body) if as_json else say(out, f"{what.folder.name} {'would be' if dry_run else 'is'} deleted.")


@app.command()
def repair(name: Name, runs: Runs = Path("runs"), storage: Storage = None, trust: Trust = False, as_json: Json = False) -> None:
    """Rebuild a lost or damaged study from the records and the readable part of its journal."""
    from golflab.search.upkeep.listing import existing
    from golflab.search.upkeep.repair import rebuild

    done = rebuild(existing(name, runs.resolve()), storage, trust)
    if as_json:
        body = {"study": done.study, "repaired": done.needed, "trials": done.trials, "from_records": done.from_records}
        body |= {"lost": done.lost, "lines": done.lines, "damaged": done.damaged, "notes": done.notes}
        show.emit(body | {"kept": None if done.kept is None else str(done.kept)})
        return
    for line in done.sentences():
        say(out, line)
