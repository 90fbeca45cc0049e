"""Where a search is kept: its folder, its Optuna storage, ``experiment.json``, and who is driving it.

The folder is the experiment: its name is the experiment's name, and everything lies in it or is found from it.

The default storage is a journal file in the experiment's folder, locked with ``flock``: the kernel releases such a lock
when its holder dies, so a killed driver never leaves one behind (Optuna's own locks wait thirty seconds for that).
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import pwd
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from golflab.model.system.files import write_atomic
from golflab.search.ledger.database import check_address, cleaned, completed, masked, with_driver

JOURNAL = "study.journal"
MOVED = {"model.run:run": "golflab.model.run:run", "search.forecast:Forecaster": "golflab.search.ledger.forecast:Forecaster"}
FORMAT = 2  # of experiment.json; 1 had no such field, and took the experiment's name for the study's
LARGEST = 64 << 20  # bytes an experiment.json may have: more is none


class KernelLock(JournalFileOpenLock):
    """A journal lock the kernel gives back when the process that holds it dies."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f"{journal.name}.lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        for path in (self._path, self._journal):
            _check_plain(path)
        self._file = open(self._path, "ab")  # noqa: SIM115 held until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        _drop_torn_line(self._journal)  # before anything is written behind it
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def open_storage(url: str | None, folder: Path, reading: bool = False) -> BaseStorage:
    """Open the Optuna storage at ``url``, or the experiment's own journal file.

    Args:
        url: of a database, or None.
        folder: of the experiment.
        reading: nothing will be written: the journal must be there, and may belong to somebody else.

    Raises:
        ValueError: it cannot be opened; the message names the journal and its damaged line, and no password.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        return _open_journal(folder, reading)
    check_address(url)
    shown, url = masked(url), completed(url)
    try:
        return optuna.storages.get_storage(with_driver(url))
    except Exception as error:
        how = " PostgreSQL needs: pip install 'golflab[postgresql]'." if isinstance(error, ImportError) else ""
        raise ValueError(f"storage {shown!r} cannot be opened: {cleaned(error, url).strip()}{how}") from None


def _open_journal(folder: Path, reading: bool) -> BaseStorage:
    path = folder / JOURNAL
    if reading:
        _check_plain(path)
        if not path.exists():
            raise ValueError(f"{path} is missing; {repair(folder)}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(path)
    if not reading:
        lock.acquire()
        lock.release()
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        _check_ends(path)
        return storage
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception:  # Optuna reads what does not fit together in many ways
        raise ValueError(f"{_damage(path)}; {repair(folder)}") from None


def repair(folder: Path) -> str:
    """What to do about a journal that is lost or damaged, in words."""
    return f"`golflab repair {folder.name}` rebuilds the study from the records."


def check_journal(folder: Path) -> None:
    """Check that an experiment's journal is there: to begin anew beside its records would repeat them.

    Raises:
        ValueError: it is missing or empty though there are records.
    """
    path = folder / JOURNAL
    _check_plain(path)
    if (not path.exists() or not path.stat().st_size) and any(folder.glob("trials/*/record.json")):
        state = "is empty" if path.exists() else "is missing"
        raise ValueError(f"{path} {state} though there are records of its trials; {repair(folder)}")


def study_in(storage: BaseStorage, told: dict[str, Any], url: str | None, folder: Path) -> str:
    """The name of an experiment's study: in its own journal whatever the journal holds, elsewhere what was written down.

    Raises:
        ValueError: it is not there.
    """
    written = str(told.get("study") or told.get("name") or folder.name)
    names = optuna.get_all_study_names(storage)
    if written in names:
        return written
    if url is None and len(names) == 1:
        return names[0]
    where = masked(url) if url else str(folder / JOURNAL)
    raise ValueError(f"{where} holds no study called {written!r}; {repair(folder)}")


def _check_plain(path: Path) -> None:
    """Refuse what is no ordinary file: a link would be written through, a pipe would be waited for."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no ordinary file"
        raise ValueError(f"{path} is {kind}; golflab reads and writes only ordinary files of an experiment's own.")


def _damage(path: Path) -> str:
    """Where a journal is damaged, in words."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                whole = line.endswith(b"\n") and isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                return f"{path}, line {number} is damaged"
    return f"{path} is damaged: a line of it is missing"


def _check_ends(path: Path) -> None:
    """Raise an error where the first line is not a study's, or the last whole line is none: Optuna passes over both."""
    with open(path, "rb") as file:
        first, size = file.readline(1 << 20), file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 20)))
        lines = file.read().splitlines(keepends=True)[-2:]
    if first.endswith(b"\n") and json.loads(first)["op_code"] != 0:
        raise ValueError("it does not begin with a study")
    if (whole := [line for line in lines if line.endswith(b"\n")]) and len(lines) > 1:
        json.loads(whole[-1])


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end: a driver died, or the disk filled up, while it was being written."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) in (b"", b"\n"):
            return
        window = min(size, 1 << 20)
        file.seek(size - window)
        file.truncate(size - window + file.read(window).rfind(b"\n") + 1)


class Presence:
    """Says that this driver is alive, for as long as it is: a locked file in the experiment's folder."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex[:8]
        self._folder = folder / "drivers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self._folder / self.name, "ab")  # noqa: SIM115 held while the driver lives
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def alive(self, name: str) -> bool:
        """Whether the driver called ``name`` still runs; no name is that of none."""
        if name == self.name:
            return True
        if not name or "/" in name:
            return False
        try:
            with open(self._folder / name, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @staticmethod
    def any_alive(folder: Path) -> bool:
        """Whether any driver of an experiment still runs."""
        for path in (folder / "drivers").glob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            with suppress(FileNotFoundError, PermissionError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Do something while no other driver of the experiment does."""
        with alone(self._folder.parent):
            yield

    def leave(self) -> None:
        """Say goodbye."""
        (self._folder / self.name).unlink(missing_ok=True)
        self._file.close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Do something with an experiment while no driver of it does."""
    with open(folder / "drivers.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_experiment(folder: Path, body: dict[str, Any]) -> None:
    """Write ``experiment.json``: what the experiment is, the search's options, its counts and how it stands."""
    write_atomic(folder / "experiment.json", json.dumps(body | {"updated": time.time()}, indent=1).encode())


def read_experiment(folder: Path) -> dict[str, Any]:
    """Read ``experiment.json``.

    Raises:
        ValueError: there is none (the experiment does not exist), a later golflab wrote it, or it is damaged.
    """
    path = folder / "experiment.json"
    if not path.is_symlink() and not path.exists():
        known = sorted(p.parent.name for p in folder.parent.glob("*/experiment.json"))
        near = difflib.get_close_matches(folder.name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no experiment called {folder.name!r} in {folder.parent}.{hint} There are: {', '.join(known) or 'none'}."
        )
    _check_plain(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        told = json.loads(path.read_text("utf-8-sig"))
        _check_format(path, told)
        return _renamed(_checked(told))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except _Later as later:
        raise ValueError(str(later)) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} is damaged: {why}. {_mend(folder)}") from None


def _renamed(told: dict[str, Any]) -> dict[str, Any]:
    """What an experiment named before golflab's modules lay in one package, by its name of today."""
    told["options"] |= {
        key: MOVED[value] for key, value in told["options"].items() if isinstance(value, str) and value in MOVED
    }
    return told


class _Later(ValueError):
    """A later version wrote it."""


def _check_format(path: Path, told: Any) -> None:
    known = told.get("format", 1) if isinstance(told, dict) else 1
    if isinstance(known, bool) or not isinstance(known, int) or known < 1:
        raise ValueError(f"format is {known!r}")
    if known > FORMAT:
        code = told.get("code")
        who = f"golflab {code['version']}" if isinstance(code, dict) and "version" in code else "a later golflab"
        raise _Later(f"{path} was written by {who} in format {known}; this one reads up to {FORMAT}: upgrade golflab.")


# What is used of it. Later keys may be missing: earlier versions did not write them.
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


def _checked(told: Any) -> dict[str, Any]:
    """The body, if every key that is used has a value of its type."""
    if not isinstance(told, dict):
        raise ValueError(f"it holds a {type(told).__name__}, not an object")
    if missing := [key for key in _NEEDED if key not in told]:
        raise ValueError(f"it has no {missing[0]!r}")
    for key, kinds in _KINDS.items():
        if key in told and (isinstance(told[key], bool) or not isinstance(told[key], kinds)):
            raise ValueError(f"{key} is {told[key]!r:.60}")
    for key in ("counts", "spent"):
        for name, value in told.get(key, {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key}: {name} is {value!r:.60}")
    url = told["options"].get("storage")
    if not isinstance(url, str | None):
        raise ValueError(f"options: storage is {url!r:.60}")
    return told


def _mend(folder: Path) -> str:
    return f"Its records in {folder / 'trials'} are not touched by that; mend the file, or put an earlier copy in its place."


def locate(name: str | Path, runs: str | Path = "runs") -> Path:
    """The folder of an experiment, given by its name in ``runs`` or by its path; links to it are followed."""
    text = os.path.expanduser(str(name))
    by_path = os.sep in text or text in (os.curdir, os.pardir)
    return (Path(text) if by_path else Path(runs) / text).resolve()


def cache_of(folder: Path) -> Path:
    """The stage cache of an experiment: beside it; beside the search's where it confirms one and lies in its folder."""
    runs = folder.parent
    return (runs.parent if (runs / "experiment.json").exists() else runs) / "cache"


def check_writable(folder: Path) -> None:
    """Check that an experiment can be continued by this user, and that nothing in it leads elsewhere.

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
                    f"{entry.path} is a link: what is written there would land elsewhere. Put what it leads to in its place."
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
