"""Audits a golflab recipe: its packed weights, loaded in a fresh process, with its own evaluate stage.

A preset or a trial is audited from the stage cache, and trained first if necessary; an exported artifact from its file.
Everything is scored in float32, so that differences between scores are not due to rounding.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from golflab.model.audit.judge import BUDGET, audit
from golflab.model.audit.verdict import LIMIT_SECONDS, Audit, Package
from golflab.model.compression.artifact import unpack
from golflab.model.data.overlap import SHARE, share_in_words, worst
from golflab.model.data.prepare import TokenData, prepared, rewriting_of
from golflab.model.data.tokenizer import tokenizer_of
from golflab.model.evaluation.score import Evaluator
from golflab.model.network.weights import empty_model, load_weights
from golflab.model.recipe import Recipe
from golflab.model.system.sources import OWN

TOLERANCE = 2e-4  # nats; batches of another shape move float32 scores by less
LEAST_TOKENS = 16_000


def audit_recipe(
    recipe: Recipe,
    cache: Path,
    *,
    tokens: int | None = None,
    seconds: float = LIMIT_SECONDS,
    device: str = "auto",
    seed: int | None = None,
    budget: float = BUDGET,
) -> Audit:
    """Audit a preset or a trial; stages that are not in the stage cache are computed first.

    Args:
        recipe: what is judged.
        cache: the stage cache of its runs.
        tokens: how much text the experiments use; by default enough for adapters and mixers to learn from it twice.
        seconds: the time limit of the whole evaluation.
        device: where it is trained if necessary.
        seed: of the experiments; see `golflab.model.audit.judge.audit`.
        budget: seconds for the experiments.

    Raises:
        ValueError: it cannot be run, or its run did not complete.
    """
    from golflab.model.run import packed, run

    record = run(recipe, None, cache, device=device)
    if record.state != "complete":
        raise ValueError(f"audit: the run ended {record.state} ({record.reason}); only a complete one can be audited.")
    data = prepared(recipe, cache / "data")
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "model.bin"
        artifact.write_bytes(packed(recipe, cache, device))
        options: dict[str, Any] = {"tokens": tokens, "seconds": seconds, "seed": seed, "budget": budget}
        return audit_artifact(recipe, artifact, data, code_bytes=record.code_bytes, **options)


def audit_artifact(
    recipe: Recipe,
    artifact: Path,
    data: TokenData,
    *,
    code_bytes: int | None = None,
    tokens: int | None = None,
    seconds: float = LIMIT_SECONDS,
    seed: int | None = None,
    budget: float = BUDGET,
) -> Audit:
    """Audit packed weights.

    Args:
        recipe: what they are the weights of.
        artifact: the packed file.
        data: its split's text, and the tokenizer.
        code_bytes: bytes of the script that count; None makes the script and measures it.
        tokens: how much text the experiments use; by default enough for adapters and mixers to learn from it twice.
        seconds: the time limit of the whole evaluation.
        seed: of the experiments; see `golflab.model.audit.judge.audit`.
        budget: seconds for the experiments.

    Raises:
        ValueError: the artifact does not fit the recipe.
    """
    if code_bytes is None:
        from golflab.model.submission.script import exact_code_bytes

        code_bytes = exact_code_bytes(recipe)
    documents = data.split(recipe.data.split)
    with tempfile.TemporaryDirectory() as folder:
        recipe_file, tokenizer = Path(folder) / "recipe.json", Path(folder) / "tokenizer.model"
        recipe_file.write_text(json.dumps(recipe.to_json()))
        tokenizer.write_bytes(data.tokenizer.proto)
        paths = (str(recipe_file), str(artifact.resolve()), str(tokenizer))
        package = Package(
            factory=f"{__name__}:load",
            arguments=paths,
            files=(artifact,),
            code=OWN,
            free=(recipe_file, tokenizer),  # the recipe travels inside the script, and a tokenizer is not counted
            code_bytes=code_bytes,
        )
        result = audit(
            load(*paths),
            documents,
            decode=data.tokenizer.decode,
            package=package,
            limit=recipe.limit,
            seconds=seconds,
            whole=sum(map(len, documents)),
            tokens=_enough(recipe) if tokens is None else tokens,
            tolerance=TOLERANCE,
            seed=seed,
            budget=budget,
        )
    return with_data(result, data.facts, recipe.data.split)


def with_data(result: Audit, facts: dict[str, Any], split: str) -> Audit:
    """Add what inspecting the corpus found: overlap to *no training data*, missing text and lost bytes to *accounting*.

    Args:
        result: of the experiments.
        facts: what `golflab.model.data.inspection.inspect` found; empty where nothing was inspected.
        split: what was scored.
    """
    changed = {}
    for verdict in result.verdicts:
        state, evidence = verdict.state, verdict.evidence
        if verdict.condition == 7 and (found := facts.get("overlap")):
            share, part = worst(found)
            overlap = f"{share_in_words(found, part)} of {part} stand in the training text"
            overlap = overlap if share else "no held-out text is training text"
            if share > SHARE:
                state, overlap = "breach", f"{overlap}; more than {SHARE:.1%} is not held out"
            evidence = f"{overlap}; {evidence}"
        if verdict.condition == 6:
            counts = facts.get("bytes", {}).get(split, {})
            if counts.get("changed"):
                evidence += (
                    f"; the tokenizer lost or added {counts['changed']:,} of {counts['original']:,} bytes of the original text"
                )
            for note in facts.get("notes", []):
                evidence += f"; {note}" if "sidecars count" in note else ""
                if "held-out part is" in note:
                    state, evidence = ("unchecked" if state == "pass" else state), f"{note} {evidence}"
        changed[verdict.condition] = dataclasses.replace(verdict, state=state, evidence=evidence)
    return dataclasses.replace(result, verdicts=tuple(changed.values()))


def _enough(recipe: Recipe) -> int:
    """Tokens in which every adapter and mixer learns at least twice: each of some ten experiments scores them all."""
    chunks = [getattr(t, "chunk", 0) for slot in ("adapt", "adapt_all", "mixer") for t in recipe.techniques_in(slot)]
    return max([LEAST_TOKENS, *(int(2.5 * chunk) for chunk in chunks)])


def load(recipe: str, artifact: str, tokenizer: str) -> Evaluator:
    """Make an evaluator from three files, in float32 on the CPU; the fresh process calls this.

    Raises:
        ValueError: the artifact is damaged, or has other tensors than the recipe's model.
    """
    body = Recipe.from_json(json.loads(Path(recipe).read_text()))
    model = empty_model(body)
    weights = unpack(Path(artifact).read_bytes())
    if missing := sorted(set(dict(model.named_parameters())) ^ set(weights)):
        raise ValueError(f"audit: artifact and recipe do not fit: {missing[0]} is in only one of them.")
    load_weights(model, weights)
    return Evaluator(model, tokenizer_of(Path(tokenizer).read_bytes(), rewriting_of(body)), body)
