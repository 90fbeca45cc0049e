"""Sources of tables: experiments, folders of records and files of records, which are read and checked."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from golflab.model.record import folders_in, problem, read_body, read_json, shown_path


class Reading:
    """Records from one or several paths, as JSON values; damaged ones are listed and left out.

    Args:
        paths: label -> folder or ``.jsonl`` file.

    Attributes:
        runs: label -> number of records; complete after `bodies` has ended.
        damaged: which records were left out, and why.
    """

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.runs = dict.fromkeys(paths, 0)
        self.damaged: list[str] = []

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Every undamaged record, path by path."""
        for name, path in self.paths.items():
            for body in _lines(path, self.damaged) if path.is_file() else _records(path, self.damaged):
                self.runs[name] += 1
                yield body


def _parse(content: bytes) -> Any:
    """JSON, read fast: as `golflab.model.system.untrusted.parse_json` does."""
    return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))


def _records(path: Path, damaged: list[str]) -> Iterator[dict[str, Any]]:
    """Records in folders, one file each."""
    root = path / "trials" if (path / "trials").is_dir() else path
    for folder in folders_in(root, damaged):
        try:
            body = read_body(folder, _parse)
        except FileNotFoundError:
            continue  # it was removed just now
        except ValueError as error:
            damaged.append(f"{shown_path(folder, root)}: {error}")
            continue
        body["folder"] = str(folder)
        yield body


def _lines(path: Path, damaged: list[str]) -> Iterator[dict[str, Any]]:
    """Records in a file, one per line; fields may be missing, because other programs may have written them."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                body = _parse(line)
            except ValueError as error:
                reason = f"no JSON ({error})"
            else:
                reason = problem(body, required=())
            if reason:
                damaged.append(f"{path.name}, line {number}: {reason}")
            else:
                yield body


def located(path: str | Path) -> Path:
    """A path that exists: as it is given, or that of an experiment of this name in ``runs``.

    Raises:
        ValueError: there is none.
    """
    for found in (Path(path), Path("runs") / path):
        if found.exists():
            return found
    raise ValueError(
        f"There is no {path}. Give the folder of an experiment (runs/NAME), or a .jsonl or .parquet file of records."
    )


def labels(paths: Sequence[Path]) -> list[str]:
    """Names of experiments in one table: that of the folder or file, with the parent folder if two are equal.

    Raises:
        ValueError: there is none, or one is named twice.
    """
    if not paths:
        raise ValueError("load: name at least one experiment.")
    whole = [path.resolve() for path in paths]
    if twice := [path for path, count in Counter(whole).items() if count > 1]:
        raise ValueError(f"load: {twice[0]} is named twice; its runs would count twice.")
    if parquet := [path for path in paths if path.suffix == ".parquet"]:
        raise ValueError(f"load: {parquet[0]} is a finished table; only folders and .jsonl files can be read together.")
    names = [path.stem if path.is_file() else path.name for path in whole]
    for name, count in Counter(names).items():
        if count > 1:
            alike = [k for k, other in enumerate(names) if other == name]
            for k in alike:
                names[k] = f"{whole[k].parent.name}/{name}"
            if len({names[k] for k in alike}) < count:
                names = [str(whole[k]) if k in alike else other for k, other in enumerate(names)]
    return names


def experiment(folder: Path) -> dict[str, Any]:
    """Content of ``experiment.json``; empty if there is none. The name is that of the folder.

    Raises:
        ValueError: the file is damaged.
    """
    if not folder.is_dir():
        return {}
    try:
        body = read_json(folder / "experiment.json")
        if reason := _wrong(body):
            raise ValueError(reason)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(
            f"{folder / 'experiment.json'} is damaged: {error}. Without it, it is unknown how the runs were chosen; "
            f"load({str(folder / 'trials')!r}) still reads them."
        ) from None
    place = folder.resolve()
    if (body.get("name"), body.get("place")) in ((place.name, None), (place.name, str(place))):
        return dict(body)
    # It was copied, moved or renamed since it last ran.
    return body | {"name": place.name, "resume": f"golflab resume {shlex.quote(str(folder))}"}


def _wrong(body: Any) -> str:
    """What is wrong in ``experiment.json`` for an analysis; an empty text if nothing is."""
    if not isinstance(body, dict):
        return "it is not an object"
    kinds: dict[str, type | tuple[type, ...]] = {"options": dict, "counts": dict, "presets": dict, "refusal": dict}
    kinds |= {"planned": list, "design": str, "space": str}
    wrong = [name for name, kind in kinds.items() if body.get(name) is not None and not isinstance(body[name], kind)]
    if wrong:
        return f"{wrong[0]} is {body[wrong[0]]!r:.40}"
    if strange := [k for k, v in (body.get("counts") or {}).items() if type(v) is not int or v < 0]:
        return f"counts: {strange[0]} is {body['counts'][strange[0]]!r:.40}, not a whole number"
    if not all(isinstance(recipe, str) for recipe in body.get("planned") or ()):
        return "planned contains values that are not recipes"
    return _wrong_prior((body.get("options") or {}).get("prior")) or _wrong_refusal(body.get("refusal"))


def _wrong_prior(prior: Any) -> str:
    rows = prior if isinstance(prior, list) else [prior]
    sound = [isinstance(row, list) and [type(value) in (int, float) for value in row] == [False, True, True] for row in rows]
    return "" if prior is None or all(sound) else f"options: prior is {prior!r:.40}"


def _wrong_refusal(refusal: Any) -> str:
    if refusal is None:
        return ""
    sizes = refusal.get("bytes")
    numbers = (
        [refusal.get("limit"), *(sizes.get(edge) for edge in ("low", "mid", "high"))] if isinstance(sizes, dict) else [None]
    )
    sound = isinstance(refusal.get("words"), str) and all(type(v) in (int, float) for v in numbers)
    return "" if sound else "refusal has no words, bytes or limit"


def merged(experiments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The contents of several ``experiment.json`` as one: values that all share, and each of them under ``experiments``."""
    if len(experiments) == 1:
        return dict(next(iter(experiments.values())))
    bodies = list(experiments.values())
    out = {key: value for key, value in bodies[0].items() if all(key in body and body[key] == value for body in bodies)}
    options = [body.get("options", {}) for body in bodies]
    out["options"] = {key: value for key, value in options[0].items() if all(key in o and o[key] == value for o in options)}
    counts: Counter[str] = Counter()
    for body in bodies:
        counts.update(body.get("counts") or {})
    for single in ("planned", "refusal", "resume", "id", "place", "study"):  # specific to one experiment
        out.pop(single, None)
    presets = {recipe: name for body in bodies for recipe, name in (body.get("presets") or {}).items()}
    out |= {"presets": presets} if presets else {}
    own = {name: dict(body) for name, body in experiments.items()}
    return out | {"name": " + ".join(experiments), "counts": dict(counts), "experiments": own}
