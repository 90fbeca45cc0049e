"""golflab: a laboratory for Parameter Golf. What a researcher needs is offered here, and imported when it is first used.

    import golflab

    runs = golflab.load("runs/first")
    golflab.contribution(runs)

``golflab.search(...)`` starts a search. The packages behind these names are `golflab.model`, `golflab.spaces`,
`golflab.search` and `golflab.analysis`.

From now on Python looks for modules in the working folder last: an ``optuna.py`` or a ``model.py`` beside a notebook is not
imported in place of a library. Modules of other names are found there as before.
"""

from __future__ import annotations

import os
import sys


def here() -> str:
    """The working folder, with links resolved; empty if it was removed."""
    try:
        return os.path.realpath(os.getcwd())
    except OSError:
        return ""


def is_working_folder(folder: str) -> bool:
    """Whether an entry of the module path is the working folder, however it is written."""
    return not folder or os.path.realpath(folder) == here()


def working_folder_last() -> None:
    """Look for modules in the working folder last, if Python looks there at all."""
    kept = [folder for folder in sys.path if not is_working_folder(folder)]
    sys.path[:] = kept + [""] * (len(kept) < len(sys.path))


working_folder_last()  # before anything is imported that the working folder may contain, too

import importlib  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

WINGS = ("model", "spaces", "search", "analysis")
_HERE = Path(__file__).resolve().parent
if not (_HERE / "model").is_dir():  # in a checkout the packages lie beside this folder; in an installed wheel, inside it
    __path__.append(str(_HERE.parent))

_OFFERED = {
    "preset": "golflab.spaces.presets",
    "paced": "golflab.spaces.scales",
    "Recipe": "golflab.model.recipe",
    "Space": "golflab.spaces.space",
    "run": "golflab.model.run",
    "search": "golflab",  # the package can be called: see golflab/search/__init__.py
    "resume": "golflab.search.experiment.start",
    "ablate": "golflab.search.design.run",
    "load": "golflab.analysis.table",
    "contribution": "golflab.analysis.effects.contribution",
    "interaction": "golflab.analysis.effects.interaction",
    "shapley": "golflab.analysis.effects.interaction",
    "ranking": "golflab.analysis.comparison.ranking",
    "frontier": "golflab.analysis.comparison.frontier",
    "compare": "golflab.analysis.comparison.paired",
    "report": "golflab.analysis.report.report",
    "plots": "golflab.analysis.report",
    "published": "golflab.analysis.evidence",
    "export": "golflab.search.cli.export",
    "audit": "golflab.model.audit.judge",
}
__all__ = sorted(_OFFERED)


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _OFFERED:
        raise AttributeError(f"golflab offers no {name!r}; it offers {', '.join(__all__)}.")
    home = _OFFERED[name]
    if name in ("search", "plots", "published"):
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
