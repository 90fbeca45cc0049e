"""The command line starts at once, and shows foreign text as it is."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from golflab.model.record import Record
from golflab.search.sampler.proposal import Proposal
from golflab.search.terminal import show
from golflab.search.terminal.live_table import LiveTable
from golflab.search.terminal.plain import PlainConsole, plain, write_what_can_be
from golflab.spaces.presets import preset

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "ray", "pandas", "optuna", "numpy", "scipy", "plotly", "tensorboardX", "sentencepiece", "huggingface_hub"}
FOREIGN = "[enforce fail at alloc.cpp:9] [/bold] :smile: \x1b[31mred\x1b]0;title\x07 \u202etxet \x9b1m"
SAFE = "[enforce fail at alloc.cpp:9] [/bold] :smile: \\x1b[31mred\\x1b]0;title\\x07 \\u202etxet \\x9b1m"


def test_help_imports_nothing_heavy():
    code = """
import sys
sys.argv = ["golflab", "--help"]
from golflab.search.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
print("IMPORTED", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout
    assert not HEAVY & set(done.stdout.rpartition("IMPORTED")[2].split())


def status_of(reason):
    counts = dict.fromkeys(("complete", "pruned", "failed", "trained", "not_fitting", "asked"), 1)
    told = {"name": "w", "state": "failed", "reason": reason, "trials": 3, "counts": counts, "seconds": 1.0, "spent": {}}
    failed = [{"recipe": "ab", "reason": reason, "log": f"log {reason}"}]
    return told | {"rungs": [], "best": None, "running": [], "failed": failed, "resume": "golflab resume w"}


@pytest.mark.parametrize("kind", [Console, PlainConsole])
def test_the_reason_of_a_failure_is_shown_and_obeyed_in_nothing(kind):
    console = kind(file=io.StringIO(), width=300, force_terminal=True)
    show.status(console, status_of(FOREIGN))
    assert console.file.getvalue().count(SAFE) == 3
    told = {"corpus": FOREIGN, "kind": "text", "fingerprint": "f", "splits": {FOREIGN: {"documents": 3}}, "notes": []}
    show.corpus(console, told | {"overlap": {"splits": {}}})
    show.presets(console, [{"name": FOREIGN, "shape": vars(preset("baseline").shape), "techniques": []}])
    recipe = preset("baseline")
    failed = Record(recipe.hash, 0, FOREIGN, "failed", recipe.to_json(), reason=FOREIGN, notes=[FOREIGN])
    show.record(console, failed)
    assert console.file.getvalue().count(SAFE) == 8
    assert "\x1b[31m" not in console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_live_table_shows_foreign_text_too(terminal):
    console, recipe = Console(file=io.StringIO(), width=300, force_terminal=terminal), preset("baseline")
    table = LiveTable(recipe, 2, console)
    table.started(Proposal(0, recipe, {}))
    table.finished(0, Record(recipe.hash, 0, "baseline", "failed", recipe.to_json(), reason=FOREIGN))
    console.print(table)
    assert SAFE in console.file.getvalue()


def test_a_plain_console_takes_every_text_as_it_is():
    console = PlainConsole(file=io.StringIO(), width=300)
    console.print(FOREIGN, "[red]x[/]")
    assert console.file.getvalue() == f"{SAFE} [red]x[/]\n"


def test_lines_and_letters_stay():
    assert plain("ä\n\t–≤ 漢") == "ä\n\t–≤ 漢"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"1 - 2 ... <= ? ?"), ("latin-1", b"1 - 2 ... <= \xe4 ?")])
def test_a_terminal_that_lacks_characters_gets_others(encoding, shown):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write_what_can_be(stream)
    stream.write("1 – 2 … ≤ ä 漢")
    stream.flush()
    assert stream.buffer.getvalue() == shown
