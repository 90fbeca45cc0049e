"""Where Python looks for modules: a user's folder comes last, here and in the workers.

The folder that somebody works in may hold a ``model.py`` or an ``optuna.py`` of their own. Python looks there first when a
module is run with ``-m``, and Ray has its workers look there first. Golflab's own packages and every library would then be
taken from there. So the working folder is moved to the end: a space of the user's own is found there, and nothing else is.

The command line imports this module before anything else, so it imports nothing itself that such a folder could hold.
"""

from __future__ import annotations

import importlib
import os
import sys

import golflab

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(golflab.__file__)))  # of the folder golflab is imported from
LAST = "GOLFLAB_PATH_LAST"  # in a worker's environment: folders to look in after all others


def working_folder_last() -> None:
    """Look for modules in the working folder last."""
    sys.path[:] = [*(folder for folder in sys.path if not _is_working_folder(folder)), ""]


def _is_working_folder(folder: str) -> bool:
    return not folder or os.path.realpath(folder) == _here()


def _here() -> str:
    try:
        return os.path.realpath(os.getcwd())
    except OSError:  # it was removed
        return ""


def workers_path() -> dict[str, str]:
    """Environment variables with which workers on this machine look where this process does, the user's folders last."""
    given = [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    kept = [folder for folder in given if not _is_working_folder(folder) and not _shadows(folder)]
    path = [*([] if _is_installed() else [ROOT]), *kept]
    script = os.path.dirname(os.path.realpath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    last = [*(folder for folder in given if folder not in kept), *([script] if script in sys.path else []), _here()]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), LAST: os.pathsep.join(dict.fromkeys(last))}


def _shadows(folder: str) -> bool:
    """Whether a folder holds something that would be taken for a package of golflab's."""
    if os.path.realpath(folder) == ROOT:
        return False
    return any(os.path.exists(os.path.join(folder, name)) for name in ("golflab", "golflab.py"))


def _is_installed() -> bool:
    """Whether golflab lies where Python looks by itself."""
    return os.path.basename(ROOT) in ("site-packages", "dist-packages")


def take_up() -> None:
    """In a worker: look in the user's folders too, after all others."""
    for folder in filter(None, os.environ.get(LAST, "").split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)


def trouble(names: list[str], root: str) -> str:
    """Why one of these modules cannot be imported here, and what file is in the way; empty if all can.

    It is sent to workers by value, for they may find nothing of golflab's.

    Args:
        names: of modules.
        root: folder that golflab's own packages are in.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            return culprit(error, name, root)
    return ""


def culprit(error: BaseException, name: str, root: str) -> str:
    """One sentence: a module cannot be imported, why, and which file of the user's is in the way.

    Args:
        error: what the import raised.
        name: of the module.
        root: folder that golflab's own packages are in.
    """
    missing = (getattr(error, "name", None) or name).partition(".")[0]
    taken = getattr(sys.modules.get(missing), "__file__", None) or ""
    path = users_file(error, root) or (taken if _is_foreign(taken, root) else "")
    said = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    where = f" {path} is in the way: rename it, or take its folder off PYTHONPATH." if path else ""
    return f"{name} cannot be imported: {said}.{where}"


def users_file(error: BaseException, root: str) -> str:
    """The file of the user's in whose import an error was raised; empty if it was not raised in one."""
    import traceback  # here, for a working folder may hold something of this name

    ran = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return next((path for path in reversed(ran) if _is_foreign(path, root)), "")


def _is_foreign(path: str, root: str) -> bool:
    """Whether a file belongs neither to golflab, nor to Python, nor to a library."""
    import sysconfig

    folders = [root, *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    within = [os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep) for folder in folders]
    return os.path.isabs(path) and not any(within)
