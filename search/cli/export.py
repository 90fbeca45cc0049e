"""`golflab export` and `golflab audit`: a trial is written as a submission, or tested against the rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.recipe import Recipe, counted_code
from golflab.model.record import Record, look_through
from golflab.model.system.files import write_atomic
from golflab.search.ledger.book import best_of
from golflab.search.upkeep.status import recipe_numbered


def find_trial(folder: Path, which: str, tell: Callable[[str], None] = lambda sentence: None) -> tuple[Recipe, Record]:
    """A trial of an experiment by its number, its recipe's hash (or the beginning of it), or ``best``.

    A whole number is a trial's number, unless it is as long as a hash.

    Args:
        folder: of the experiment.
        which: of its trials.
        tell: called with a sentence if records are damaged; these are left out.

    Raises:
        ValueError: no experiment, no such trial, several trials with this beginning, no complete one, or a damaged record.
    """
    looked = look_through(folder / "trials")
    found = [record for _, record in looked.records]
    if looked.damaged:
        tell(looked.in_words())
    if not found:
        raise ValueError(f"{folder} has no finished trial to export. `golflab status {folder.name}` says what runs.")
    if which == "best":
        if (best := best_of(found)) is None:
            raise ValueError(f"No trial of {folder.name} completed within its limit.")
        return Recipe.from_json(best.spec), best
    if which.isdecimal() and len(which) < len(found[0].recipe) and (folder / "experiment.json").exists():
        which = recipe_numbered(folder, int(which))
    if spoiled := [said for said in looked.damaged if said.startswith(f"trials/{which}")]:
        raise ValueError(f"trial {which!r} cannot be exported, because its record is damaged: {spoiled[0]}.")
    matching = [r for r in found if r.recipe.startswith(which)]
    if len(matching) != 1:
        many = "several recipes begin" if matching else "no recipe begins"
        known = ", ".join(sorted(record.recipe for record in found))
        raise ValueError(f"trial {which!r}: {many} like this. Name one of {known}, or a trial's number, or best.")
    return Recipe.from_json(matching[0].spec), matching[0]


MEASURED = ("bpb", "bpb_float", "bytes", "code_bytes", "tokens")  # numbers that may differ from the search's


def export(
    recipe: Recipe, record: Record, cache: Path, to: Path, tell: Callable[[str], None] = lambda sentence: None
) -> dict[str, int]:
    """Write ``train_gpt.py``, ``model.bin``, ``recipe.json`` and ``record.json``; return each file's bytes.

    ``record.json`` describes the files next to it: they are made and measured now. The search's numbers may differ, because the
    code has changed or the training had to be repeated; then ``record.json`` has them under ``search``.

    Args:
        recipe: of a complete trial; stages that are no longer in the stage cache are computed again.
        record: of that trial.
        cache: the stage cache of its runs.
        to: folder, created if missing.
        tell: called with a sentence for each number that differs.

    Raises:
        ValueError: the trial did not complete, or does not now, or the folder cannot be written.
    """
    from golflab.model.run import again
    from golflab.model.submission.script import script
    from golflab.search.experiment.checks import writable

    if record.state != "complete":
        raise ValueError(f"trial {record.recipe} is {record.state}; only a complete one can be exported.")
    writable(to)
    made, blob = again(recipe, cache, record)
    before = {key: getattr(record, key) for key in MEASURED if getattr(record, key) != getattr(made, key)}
    for key, value in before.items():
        tell(f"{key} of the export: {_shown(getattr(made, key))}; the search had {_shown(value)}.")
    contents = {
        "train_gpt.py": script(recipe),
        "model.bin": blob,
        "recipe.json": json.dumps(recipe.to_json(), indent=1).encode(),
        "record.json": json.dumps(made.summary() | ({"search": before} if before else {}), indent=1).encode(),
    }
    for name, content in contents.items():
        write_atomic(to / name, content)
    return {name: len(content) for name, content in contents.items()}


def bytes_in_words(folder: Path) -> str:
    """Both totals of an export: what the challenge counts, and with the tokenizer."""
    saved = json.loads((folder / "record.json").read_text())
    return (
        f"{saved['bytes']:,} bytes of code and weights count; with the tokenizer's {saved['tokenizer_bytes']:,}, which do not, "
        f"{saved['bytes_with_tokenizer']:,}."
    )


def splits_in_words(recipe: Recipe) -> str:
    """Which part of the corpus the exported script scores, and which one the record next to it."""
    split = recipe.data.split
    own = "" if split == "test" else f", unless --split {split} is given"
    return f"record.json has the score of the {split} part of the corpus; train_gpt.py scores the test part{own}."


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.5f}"


def judge(target: str, scale: str, runs: Path, entry: dict[str, Any] | None = None, **options: Any) -> Any:
    """Audit a preset, a trial (``NAME/TRIAL``), the folder of an export, or another entry's ``file.py:factory``.

    Args:
        target: what is audited.
        scale: of a preset.
        runs: folder of experiments.
        entry: of `golflab.model.audit.entry.Entry`: files, corpus, text and tokenizer; only for another entry.
        options: seed and budget.

    Raises:
        ValueError: there is no such target, or it cannot be audited.
    """
    from golflab.model.audit.entry import Entry, audit_entry, is_entry
    from golflab.model.audit.recipe import audit_artifact, audit_recipe
    from golflab.model.data.prepare import prepared
    from golflab.spaces.presets import PRESETS, preset
    from golflab.spaces.scales import paced

    entry = {key: value for key, value in (entry or {}).items() if value}
    if is_entry(target):
        return audit_entry(Entry(target, **entry), runs / "cache" / "data", **options)
    if entry:
        raise ValueError(
            f"audit: --{', --'.join(sorted(entry))} are only for another entry, file.py:factory; {target!r} is a recipe, "
            "which has its own files and text."
        )
    folder = Path(target)
    if (folder / "model.bin").is_file() and (folder / "recipe.json").is_file():
        recipe = Recipe.from_json(json.loads((folder / "recipe.json").read_text()))
        data = prepared(recipe, runs / "cache" / "data")
        script = folder / "train_gpt.py"
        code = counted_code(recipe, script.stat().st_size) if script.exists() else None
        return audit_artifact(recipe, folder / "model.bin", data, code_bytes=code, **options)
    name, _, trial = target.rpartition("/")
    if name and target not in PRESETS:
        return audit_recipe(find_trial(runs / name, trial)[0], runs / "cache", **options)
    return audit_recipe(paced(preset(target, scale)), runs / "cache", **options)


def judge_bytes(tokenizer: Path, tables: Path, corpus: str) -> Any:
    """Count a corpus' held-out text by byte tables, and compare with what it decodes to, document by document.

    Args:
        tokenizer: SentencePiece model.
        tables: byte tables; see `golflab.model.audit.experiments.accounting.read_tables`.
        corpus: text, which is encoded; or token shards, which the tokenizer must have made.

    Returns:
        A `golflab.model.audit.verdict.Audit` of one verdict.

    Raises:
        ValueError: a file cannot be used, or tokenizer, tables and corpus do not go together.
    """
    from golflab.model.audit.entry import read_tokenizer
    from golflab.model.audit.experiments.accounting import judge_tables, read_tables
    from golflab.model.audit.power import Power
    from golflab.model.audit.verdict import Audit, Verdict
    from golflab.model.data.corpus import ShardCorpus, load_corpus
    from golflab.model.data.official import check_sidecars
    from golflab.model.data.shards import exchanged, read_shard, split_documents
    from golflab.model.data.tokenizer import tokenizer_of
    from golflab.search.cli.data import noticed

    model, counts, text = read_tokenizer(tokenizer), read_tables(tables), load_corpus(corpus)
    model = tokenizer_of(model.proto, noticed(model))  # of text that CaseOps rewrote, by its pieces
    own = model.own_bos
    if isinstance(text, ShardCorpus):
        documents, originals = split_documents(np.concatenate([read_shard(p) for p in text.held_out]), own), None
    else:
        originals = [document for split in (text.dev, text.test) for document in split]
        documents = [exchanged(model.encode(document), own) for document in originals]
    if counts.by_token and isinstance(text, ShardCorpus) and not getattr(model, "lossless", True):
        try:  # its tokens decode to normalised text; the sidecars count the original
            state, evidence = "pass", " ".join(check_sidecars(text, model)) or "the sidecars count the decoded text"
        except ValueError as error:
            state, evidence = "breach", str(error)
    else:
        state, evidence = judge_tables(counts, documents, lambda ids: model.decode(exchanged(np.asarray(ids), own)), originals)
    count = sum(map(len, documents))
    power = Power(count, count, count, f"every document of the held-out text of {corpus}")
    return Audit((Verdict(6, "accounting", state, evidence, str(power)),), None, {"accounting": power.to_json()})
