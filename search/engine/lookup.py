"""Where Python looks for modules: the user's folder comes last, in this process and in the workers.

The user's working folder may contain a ``model.py`` or an ``optuna.py``. With ``python -m`` Python looks there first, and so do
Ray's workers. Golflab's own packages and all libraries could then be imported from there by mistake. So the working folder is
moved to the end of the path: a space of the user's own is found there, and nothing else.

The command line imports this module before everything else, so this module must not import anything that such a folder could
contain.
"""

from __future__ import annotations

import importlib
import os
import sys

import golflab
from golflab import here, is_working_folder

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(golflab.__file__)))  # the folder that golflab is imported from
LAST = "GOLFLAB_PATH_LAST"  # environment variable of workers: folders to look in after all others


def working_folder_last() -> None:
    """Look for modules in the working folder last; unlike `golflab.working_folder_last`, always look there."""
    sys.path[:] = [*(folder for folder in sys.path if not is_working_folder(folder)), ""]


def workers_path() -> dict[str, str]:
    """Environment variables that give workers on this machine the module path of this process, the user's folders last."""
    given = [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    kept = [folder for folder in given if not is_working_folder(folder) and not _shadows(folder)]
    path = [*([] if _is_installed() else [ROOT]), *kept]
    script = os.path.dirname(os.path.realpath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    last = [*(folder for folder in given if folder not in kept), *([script] if script in sys.path else []), here()]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), LAST: os.pathsep.join(dict.fromkeys(last))}


def _shadows(folder: str) -> bool:
    """Whether a folder contains another package or module called golflab."""
    if os.path.realpath(folder) == ROOT:
        return False
    return any(os.path.exists(os.path.join(folder, name)) for name in ("golflab", "golflab.py"))


def _is_installed() -> bool:
    """Whether golflab is in ``site-packages``, where Python looks anyway."""
    return os.path.basename(ROOT) in ("site-packages", "dist-packages")


def take_up() -> None:
    """In a worker: add the user's folders to the end of the path."""
    for folder in filter(None, os.environ.get(LAST, "").split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)


def trouble(names: list[str], root: str) -> str:
    """Why one of these modules cannot be imported here, and which file is the cause; empty if all can.

    The function is sent to workers by value, because they may not find golflab at all.

    Args:
        names: of modules.
        root: folder that contains golflab's packages.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            return import_problem(error, name, root)
    return ""


def import_problem(error: BaseException, name: str, root: str) -> str:
    """A sentence that says why a module cannot be imported, and which of the user's files is the cause.

    Args:
        error: what the import raised.
        name: of the module.
        root: folder that contains golflab's packages.
    """
    missing = (getattr(error, "name", None) or name).partition(".")[0]
    taken = getattr(sys.modules.get(missing), "__file__", None) or ""
    path = users_file(error, root) or (taken if _is_foreign(taken, root) else "")
    said = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    where = f" {path} is imported instead: rename it, or remove its folder from PYTHONPATH." if path else ""
    return f"{name} cannot be imported: {said}.{where}"


def users_file(error: BaseException, root: str) -> str:
    """The user's file whose import raised an error; empty if there is none."""
    import traceback  # imported here, because a working folder may contain a module of this name

    ran = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return next((path for path in reversed(ran) if _is_foreign(path, root)), "")


def _is_foreign(path: str, root: str) -> bool:
    """Whether a file belongs to the user: not to golflab, Python or a library."""
    import sysconfig

    folders = [root, *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    within = [os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep) for folder in folders]
    return os.path.isabs(path) and not any(within)
