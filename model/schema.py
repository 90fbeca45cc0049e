"""What a valid record is: the type and the range of every field. Imports no torch.

The first error is reported in a few words (``bpb is '2.0', a number is wanted``). Fields that an earlier version did not write
may be missing; fields of a later version are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from golflab.model.recipe import digest

STATES = ("complete", "pruned", "failed", "not_fitting")
FORECAST = ("low", "mid", "high")
MOST = 1e300  # largest number allowed: a larger one is no measurement, and sums would lose digits
MOST_BPB = 1e6  # bits per byte; a uniform prediction of bytes has 8, and a model above this limit counts as failed
WHOLE = ("bytes", "code_bytes", "tokenizer_bytes", "parameters", "tokens")
WHOLE_FIELDS = ("seed", *WHOLE, "trial")  # whole numbers of a record
REQUIRED = ("recipe", "seed", "preset", "state", "spec")
SPEC = {"shape", "schedule", "data", "techniques", "limit", "seed", "name"}
MADE_UP = 2  # fields of the shape in specs that tests and other programs make up: these have no recipe's identity
HASH = re.compile(r"[0-9a-f]{12}")

Check = Callable[[Any], bool]


def number(value: Any, low: float = 0.0, high: float = math.inf) -> bool:
    """Whether a value is a finite number between two bounds, the upper one excluded."""
    return type(value) in (int, float) and low <= value < high and -MOST <= value <= MOST


def whole(value: Any) -> bool:
    """Whether a value is a whole number of at least zero; 1024.0 is one, too."""
    return number(value, 0, 2**63) and float(value).is_integer()


def _seed(value: Any) -> bool:
    return whole(value) or (type(value) is int and 0 <= value <= MOST)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _score(value: Any) -> bool:
    return number(value, 0.0, MOST_BPB) and value > 0


def _plain(value: Any) -> bool:
    """A value without parts."""
    return value is None or type(value) in (str, bool) or number(value, -math.inf)


def _few(value: Any, depth: int = 6) -> bool:
    """A JSON value of a bounded depth."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_few(part, depth - 1) for part in parts)
    return _plain(value)


def _mapping(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _listed(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _forecast(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(number(value.get(edge)) for edge in (FORECAST if value else ())))


def _point(value: Any) -> bool:
    """A point of a curve: plain values, and numbers where numbers belong."""
    if not isinstance(value, dict) or not whole(value.get("step")):
        return False
    try:
        if math.isfinite(sum(value.values())):  # nearly every point: numbers and nothing else
            return True
    except (TypeError, OverflowError):
        pass
    numbers = ("tokens", "seconds", "loss", "bpb", "bytes", "progress")
    return all(map(_plain, value.values())) and all(number(value[k], -math.inf) for k in numbers if value.get(k) is not None)


def _finishing(value: Any) -> bool:
    """What `golflab.model.ways.compare` says of one way."""
    if not isinstance(value, dict) or not isinstance(value.get("technique"), str):
        return False
    lists = all(_listed(_text)(value.get(key)) for key in ("beside", "instead_of"))
    return lists and all(number(value.get(key), -math.inf) for key in ("delta_bpb", "delta_bytes")) and _few(value)


def _time(value: Any) -> bool:
    if value == "":
        return True
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


NUMBER, WHOLE_NUMBER, TEXT = "a number", "a whole number", "a text"
FIELDS: dict[str, tuple[Check, str]] = {
    "recipe": (lambda v: _text(v) and 0 < len(v) <= 64, TEXT),
    "seed": (_seed, WHOLE_NUMBER),
    "preset": (_text, TEXT),
    "state": (lambda v: v in STATES if _text(v) else False, f"one of {', '.join(STATES)}"),
    "reason": (_text, TEXT),
    "bpb": (_or_none(_score), f"{NUMBER} above 0 and below a million"),
    "bpb_float": (_or_none(_score), f"{NUMBER} above 0 and below a million"),
    **{name: (_or_none(whole), WHOLE_NUMBER) for name in WHOLE},
    "bytes_forecast": (_forecast, "low, mid and high bytes"),
    "seconds": (_or_none(number), NUMBER),
    "tokens_per_second": (_or_none(number), NUMBER),
    "trained": (lambda v: isinstance(v, bool), "true or false"),
    "training": (_text, TEXT),
    "stages": (_mapping(number), "seconds by stage"),
    "curve": (_listed(_point), "a list of points, each with its step and numbers"),
    "notes": (_listed(_text), "a list of texts"),
    "machine": (_mapping(_plain), "facts by name"),
    "overlap": (lambda v: isinstance(v, dict) and _few(v), "facts by name"),
    "finishings": (_listed(_finishing), "a list of comparisons"),
    "trial": (_or_none(whole), WHOLE_NUMBER),
    "started": (_time, "a time with its zone"),
    "ended": (_time, "a time with its zone"),
    "proposed": (_mapping(_plain), "facts by name"),
}
PARTS: dict[str, tuple[Check, str]] = {
    "limit": (lambda v: whole(v) and v > 0, "a positive whole number"),
    "techniques": (_mapping(_mapping(lambda v: _plain(v) or _listed(_plain)(v))), "techniques by name with their settings"),
    "shape": (_mapping(_plain), "plain values by name"),
    "schedule": (_mapping(_or_none(number)), "numbers by name"),
    "data": (_mapping(_plain), "plain values by name"),
    "seed": (_seed, WHOLE_NUMBER),
}


def problem(body: Any, folder: str = "", required: Iterable[str] = REQUIRED) -> str:
    """What is wrong with a record as JSON holds it; an empty text where nothing is.

    Args:
        body: the value that was read.
        folder: name of the folder it lies in; where that is a recipe's hash, the record must be of that recipe.
        required: fields that must be there.
    """
    if not isinstance(body, dict):
        return f"it is {_shown(body)}, an object is wanted"
    if missing := [name for name in required if name not in body]:
        return f"{missing[0]} is missing"
    return _first_wrong(body, FIELDS, "") or _wrong_spec(body) or (_wrong_identity(body, folder) if folder else "")


def _first_wrong(body: Mapping[str, Any], checks: Mapping[str, tuple[Check, str]], within: str) -> str:
    for name, (check, wanted) in checks.items():
        if name in body and not check(body[name]):
            return f"{within}{name} is {_shown(body[name])}, {wanted} is wanted"
    return ""


def _wrong_spec(body: Mapping[str, Any]) -> str:
    if "spec" not in body:
        return ""
    spec = body["spec"]
    if not isinstance(spec, dict):
        return f"spec is {_shown(spec)}, an object is wanted"
    if wrong := _first_wrong(spec, PARTS, "spec: "):
        return wrong
    if body.get("state") == "complete" and body.get("bpb") is None:
        return "bpb is missing, a complete run has one"
    if "seed" in spec and spec["seed"] != body.get("seed", spec["seed"]):
        return f"seed is {_shown(body['seed'])}, its spec says {_shown(spec['seed'])}"
    return ""


def _wrong_identity(body: Mapping[str, Any], folder: str) -> str:
    """Whether a record in a recipe's folder is of that recipe."""
    if not HASH.fullmatch(folder):
        return ""
    if body["recipe"] != folder:
        return f"recipe is {_shown(body['recipe'])}, its folder is {folder}"
    spec = body["spec"]
    if missing := sorted(SPEC - {"name", "seed"} - set(spec)):
        return f"spec has no {missing[0]}"
    if not spec["shape"]:
        return "spec: shape says nothing"
    if len(spec["shape"]) <= MADE_UP:
        return ""
    if digest({key: value for key, value in spec.items() if key != "name"}) != folder:
        return f"spec is not the spec of recipe {folder}: it was changed"
    if body["state"] == "complete" and body.get("bytes") is None:
        return "bytes is missing, a complete run has its size"
    return ""


def _shown(value: Any) -> str:
    """A value in an error: a part with parts by its kind, anything else cut short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def damaged_in_words(damaged: list[str]) -> str:
    """How many records are damaged, and which, in a sentence; empty where none is."""
    count, shown = len(damaged), "; ".join(damaged[:5])
    more = f"; and {count - 5} more" if count > 5 else ""
    are = "1 record is damaged and left out" if count == 1 else f"{count} records are damaged and left out"
    return f"{are}: {shown}{more}." if count else ""
