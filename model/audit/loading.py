"""Loading an entry from elsewhere: here, and in the fresh process of its audit.

The fresh process may not read compiled Python files, so that every module is compiled there. This one imports the standard
library only: what an entry does not need costs it nothing.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def load(path: str, factory: str, *files: str) -> Any:
    """Import a file and call its factory with the paths of the files, as many as it takes.

    The file's own folder comes last on the path, so that no file in it can replace a library.

    Raises:
        ValueError: no such file or function, or it did not make an evaluator.
    """
    place = Path(path).resolve()
    if not place.is_file():
        raise ValueError(f"audit: {path} is no file; give path/to/entry.py:factory.")
    spec = importlib.util.spec_from_file_location(f"entry_{place.stem}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(place.parent))
    spec.loader.exec_module(module)
    made = getattr(module, factory, None)
    if not callable(made):
        raise ValueError(f"audit: {path} has no function {factory!r}; give path/to/entry.py:factory.")
    kinds = [p.kind for p in inspect.signature(made).parameters.values()]
    takes = len(files) if inspect.Parameter.VAR_POSITIONAL in kinds else sum(k in _POSITIONAL for k in kinds)
    evaluator = made(*files[:takes])
    if not callable(getattr(evaluator, "score", None)) or not hasattr(evaluator, "vocabulary"):
        raise ValueError(f"audit: {path}:{factory} made {evaluator!r}; an evaluator has score(tokens) and vocabulary.")
    return evaluator
