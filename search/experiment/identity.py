"""The identity of an experiment: what must stay the same when it is continued, and how differences are described."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from golflab.model.data.corpus import Corpus, load_corpus
from golflab.model.data.prepare import prepared
from golflab.model.data.tokenizer import tokenizer_for
from golflab.model.recipe import Recipe, digest
from golflab.model.shape import Data
from golflab.model.system.wording import number_of
from golflab.search.experiment.options import Options
from golflab.spaces.space import Space

# Options that decide what is proposed and how it is measured, and that are not part of a recipe.
FIXED = ("design", "iso_size", "screen", "prior", "pruner", "variants", "halving", "finish", "rungs", "float_score", "binding")
RUNNER = "golflab.model.run:run"  # golflab's own; another runner may need no encoded text
WORDS = {"recipe": "the preset's", "own": "the space's own preset's", "space": "the space's", "options": "the option"}
SHOWN = 3  # differences that a message names


def identity_of(options: Options, plan: Sequence[Recipe] | None = None) -> dict[str, Any]:
    """What must stay the same, as JSON values.

    Returns:
        ``recipe`` (the preset, or the first of the plan), ``own`` (the preset that a user's space has in its module),
        ``space`` (what may vary, and its ranges; where the sampler proposes), ``plan`` (a digest of its recipes), ``data``
        (fingerprints of corpus and tokenizer, by corpus) and ``options``.

    Raises:
        ValueError: a corpus or a tokenizer cannot be used.
    """
    space = options.load_space()
    recipe = plan[0] if plan and not options.proposes else space.preset
    values = dataclasses.asdict(options)
    body: dict[str, Any] = {"recipe": _unnamed(recipe)}
    body["data"] = data_of([recipe, *(plan or ())], options.cache_folder)
    body["options"] = {key: list(values[key]) if isinstance(values[key], tuple) else values[key] for key in FIXED}
    if options.proposes:
        body["space"] = space_of(space)
        if ":" in options.space:
            body["own"] = _unnamed(options.brought().preset)
    if plan:
        body["plan"] = digest([r.hash for r in plan])
    return json.loads(json.dumps(body))


def _unnamed(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.to_json().items() if key != "name"}


def space_of(space: Space) -> dict[str, Any]:
    """What may vary in a space: every parameter with its choices or its range."""
    return {name: _rule(rule) for name, rule in space.distributions().items()}


def _rule(rule: BaseDistribution) -> Any:
    if isinstance(rule, CategoricalDistribution):
        return list(rule.choices)
    attributes = json.loads(distribution_to_json(rule))["attributes"]
    return {key: attributes[key] for key in ("low", "high", "step", "log") if attributes.get(key) is not None}


def data_of(recipes: Sequence[Recipe], cache: Path, encoded: bool = False) -> dict[str, dict[str, str]]:
    """Fingerprints of the corpora and tokenizers of recipes, by corpus.

    Args:
        recipes: whose data are opened.
        cache: the stage cache.
        encoded: whether to tokenise the text, too. This checks all of it, and the first trial need not do it.

    Raises:
        ValueError: a corpus or a tokenizer cannot be used.
    """
    wanted = {
        (r.data.corpus, r.data.tokenizer, r.shape.vocabulary, r.data.allow_overlap, r.technique_in("text")): r
        for r in reversed(recipes)
    }
    found: dict[str, dict[str, str]] = {}
    for recipe in wanted.values():
        data, vocabulary = recipe.data, recipe.shape.vocabulary
        corpus = load_corpus(data.corpus)
        kind = "trained on the corpus"
        if encoded:
            prepared(recipe, cache / "data")
        if data.tokenizer != "auto" or not isinstance(corpus, Corpus):
            kind = tokenizer_for(corpus, vocabulary, cache / "data", data.tokenizer).fingerprint
        found[data.corpus] = {"fingerprint": corpus.fingerprint, "tokenizer": kind}
    return found


def absolute(data: Data) -> dict[str, str]:
    """Corpus and tokenizer with absolute paths; names that are not paths stay as they are."""
    corpus = data.corpus if data.corpus == "sotu" else str(Path(data.corpus).expanduser().absolute())
    tokenizer = data.tokenizer if data.tokenizer == "auto" else str(Path(data.tokenizer).expanduser().absolute())
    return {"corpus": corpus, "tokenizer": tokenizer}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences of two identities, in words, with both values. Values that only one of them has are ignored."""
    texts = [name for name in then.get("data", {}) if name in now.get("data", {})]
    found = [
        f"the {key} of corpus {name!r}: {then['data'][name].get(key)} then, {now['data'][name].get(key)} now"
        for name in texts
        for key in ("fingerprint", "tokenizer")
        if then["data"][name].get(key) != now["data"][name].get(key)
    ]
    seen: set[str] = set()
    for part in (part for part in WORDS if part in then and part in now):
        before, after = dict(_flat(then[part], part)), dict(_flat(now[part], part))
        for key in dict.fromkeys([*before, *after]):
            known = part == "space" or key.startswith("techniques") or (key in before and key in after)
            if known and before.get(key) != after.get(key) and key not in seen:
                found.append(f"{WORDS[part]} {key}: {_shown(before, key)} then, {_shown(after, key)} now")
                seen.add(key)
    return found + (["the plan's recipes"] if then and then.get("plan") != now.get("plan") else [])


def refuse_differences(what: str, then: Mapping[str, Any], now: Mapping[str, Any], todo: str) -> None:
    """Raise an error if two identities differ.

    Raises:
        ValueError: they differ; the message has both values.
    """
    if found := differences(then, now):
        more = f" (and {number_of(len(found) - SHOWN, 'more difference')})" if len(found) > SHOWN else ""
        raise ValueError(f"{what}: {'; '.join(found[:SHOWN])}{more}. {todo}")


def _flat(value: Any, part: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted name; a parameter of a space is one leaf."""
    depth = prefix.count(".") + bool(prefix)
    if isinstance(value, Mapping) and not (part == "space" and depth) and (value or not prefix):
        for key, inner in value.items():
            yield from _flat(inner, part, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _shown(table: Mapping[str, Any], key: str) -> str:
    if key not in table:
        return "absent"
    value = table[key]
    if value == {}:  # a technique without knobs
        return "on"
    if isinstance(value, Mapping) and "low" in value:
        return f"{value['low']:g} to {value['high']:g}" + (" on a log scale" if value.get("log") else "")
    return "none" if value is None else str(value) if not isinstance(value, list) else ", ".join(map(str, value)) or "none"
