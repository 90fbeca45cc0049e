"""``experiment.json``: read, checked and written; where an experiment lies, and whether this user can continue it.

The folder is the experiment: its name is the experiment's name, and everything lies in it or is found from it.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import time
from pathlib import Path
from typing import Any

from golflab.model.system.files import write_atomic
from golflab.model.system.wording import did_you_mean
from golflab.search.ledger.storage import JOURNAL, check_plain

MOVED = {"model.run:run": "golflab.model.run:run", "search.forecast:Forecaster": "golflab.search.ledger.forecast:Forecaster"}
FORMAT = 2  # of experiment.json; format 1 had no such field, and took the experiment's name for the study's
RESERVED = {"cache": "the stage cache", "single": "the records of `golflab run`", "variants": "what `golflab variants` leaves"}
LARGEST = 64 << 20  # bytes; a larger experiment.json is damaged


def write_experiment(folder: Path, body: dict[str, Any]) -> None:
    """Write ``experiment.json``: the experiment's identity, options, counts and state."""
    write_atomic(folder / "experiment.json", json.dumps(body | {"updated": time.time()}, indent=1).encode())


def read_experiment(folder: Path) -> dict[str, Any]:
    """Read ``experiment.json``.

    Raises:
        ValueError: the experiment does not exist, a later golflab wrote the file, or it is damaged.
    """
    path = folder / "experiment.json"
    if not path.is_symlink() and not path.exists():
        raise unknown_experiment(folder)
    check_plain(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        saved = json.loads(path.read_text("utf-8-sig"))
        _check_format(path, saved)
        return _renamed(_checked(saved))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except _Later as later:
        raise ValueError(str(later)) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} is damaged: {why}. {_mend(folder)}") from None


def experiments_in(folder: Path) -> list[Path]:
    """The experiments right below a folder, in name order; none where there is no such folder."""
    here = (p for p in sorted(folder.glob("*")) if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    return [p for p in here if os.path.lexists(p / "experiment.json") and p.name.lower() not in RESERVED]


def unknown_experiment(folder: Path) -> ValueError:
    """The error where ``folder`` is no experiment: what is there instead, and the most similar name."""
    known = [p.name for p in experiments_in(folder.parent)]
    hint = did_you_mean(folder.name, known)
    return ValueError(
        f"There is no experiment called {folder.name!r} in {folder.parent}.{hint} There are: {', '.join(known) or 'none'}."
    )


def _renamed(saved: dict[str, Any]) -> dict[str, Any]:
    """Replace the names that modules had before golflab was one package."""
    saved["options"] |= {
        key: MOVED[value] for key, value in saved["options"].items() if isinstance(value, str) and value in MOVED
    }
    return saved


class _Later(ValueError):
    """The file was written by a later version."""


def _check_format(path: Path, saved: Any) -> None:
    known = saved.get("format", 1) if isinstance(saved, dict) else 1
    if isinstance(known, bool) or not isinstance(known, int) or known < 1:
        raise ValueError(f"format is {known!r}")
    if known > FORMAT:
        code = saved.get("code")
        who = f"golflab {code['version']}" if isinstance(code, dict) and "version" in code else "a later golflab"
        raise _Later(f"{path} was written by {who} in format {known}; this one reads up to {FORMAT}: upgrade golflab.")


# Keys that are used, with their types. Most may be missing, because earlier versions did not write them.
_KINDS: dict[str, tuple[type, ...]] = {"options": (dict,), "state": (str,), "counts": (dict,), "seconds": (int, float)}
_KINDS |= {"name": (str,), "study": (str,), "id": (str,), "place": (str,), "reason": (str,), "updated": (int, float)}
_KINDS |= {
    "identity": (dict,),
    "code": (dict,),
    "machine": (dict,),
    "consents": (dict,),
    "spent": (dict,),
    "continued": (list,),
}
_NEEDED = ("options", "state")


def _checked(saved: Any) -> dict[str, Any]:
    """The content, if every key that is used has a value of its type."""
    if not isinstance(saved, dict):
        raise ValueError(f"it holds a {type(saved).__name__}, not an object")
    if missing := [key for key in _NEEDED if key not in saved]:
        raise ValueError(f"it has no {missing[0]!r}")
    for key, kinds in _KINDS.items():
        if key in saved and (isinstance(saved[key], bool) or not isinstance(saved[key], kinds)):
            raise ValueError(f"{key} is {saved[key]!r:.60}")
    for key in ("counts", "spent"):
        for name, value in saved.get(key, {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key}: {name} is {value!r:.60}")
    url = saved["options"].get("storage")
    if not isinstance(url, str | None):
        raise ValueError(f"options: storage is {url!r:.60}")
    return saved


def _mend(folder: Path) -> str:
    return f"The records in {folder / 'trials'} are not affected. Repair the file, or replace it by an earlier copy."


def locate(name: str | Path, runs: str | Path = "runs") -> Path:
    """The folder of an experiment, from its name in ``runs`` or its path. Links to it are followed."""
    text = os.path.expanduser(str(name))
    by_path = os.sep in text or text in (os.curdir, os.pardir)
    return (Path(text) if by_path else Path(runs) / text).resolve()


def command(verb: str, folder: Path) -> str:
    """The command, from the current folder, that does something with an experiment."""
    here, runs = Path.cwd(), folder.parent
    if runs == here / "runs":
        where = ""
    else:
        where = f" --runs {shlex.quote(str(runs.relative_to(here) if runs.is_relative_to(here) else runs))}"
    return f"golflab {verb} {shlex.quote(folder.name)}{where}"


def cache_of(folder: Path) -> Path:
    """The stage cache of an experiment: ``cache`` next to its folder; a confirmation uses that of its search."""
    runs = folder.parent
    return (runs.parent if (runs / "experiment.json").exists() else runs) / "cache"


def check_writable(folder: Path) -> None:
    """Check that this user can write to an experiment, and that it contains no links.

    Raises:
        ValueError: something of it cannot be written, or is a link.
    """
    own = ("", "experiment.json", JOURNAL, f"{JOURNAL}.lock", "drivers", "drivers.lock", "trials", "shorter")
    for path in (folder / name for name in own):
        if path.exists() and not os.access(path, os.W_OK):
            raise _foreign(path)
    _check_below(folder)


def _check_below(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise ValueError(
                    f"{entry.path} is a link, so files would be written elsewhere. Replace it by the folder it leads to."
                )
            if entry.is_dir():
                if not os.access(entry.path, os.W_OK | os.X_OK):
                    raise _foreign(Path(entry.path))
                _check_below(Path(entry.path))


def _foreign(path: Path) -> ValueError:
    return ValueError(
        f"{path} belongs to {_user(path.stat().st_uid)} and cannot be written by {_user(os.geteuid())}. Continue as its owner, "
        "or copy the folder (cp -r): a copy is an experiment of its own."
    )


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"
