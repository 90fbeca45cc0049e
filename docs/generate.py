"""Pages of the documentation that are generated: a hook of mkdocs (see mkdocs.yml).

`techniques.md` comes from the technique classes, `api.md` from the names that `import golflab` offers, and the reports of the
worked examples and of the real ladders from their records. To write only the reports:

    python docs/generate.py FOLDER
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {"seeds/report.html": "seeds/search.jsonl", "ablation/screen.html": "ablation/screen.jsonl"}
LADDERS = ROOT / "docs" / "ladder"  # each ….csv.gz in it becomes ladder/….html
SCREEN = ROOT / "docs" / "ablation" / "screen.jsonl"
TITLES = {
    "data": "Data: which text is trained on, in which order",
    "model": "Model: the forward pass",
    "train": "Train: optimizers, schedules, averages, quantisation-aware training",
    "quantise": "Quantise: from trained weights to integers",
    "pack": "Pack: from integers to the bytes of a file",
    "evaluate": "Evaluate: from the file to bits per byte",
}
HEAD = """# The catalogue of techniques

A *technique* is one idea that changes a model, its training, its file or its evaluation. Every technique fills one *slot*: a
named place in the pipeline. Its *knobs* are its settings. This page is generated from the code, so it is complete and current.

How to read an entry:

* **Slot**: the place, what the code gives to it and what it must return. Shapes: B batch, T positions, D width, H query heads,
  K key/value heads, d width of a head, F width of the MLP, V vocabulary, N rows. A technique marked *default* fills its slot
  where a recipe names no other.
* **Knobs**: name, default, allowed range; *log* means that a search draws it on a logarithmic scale. Ranges are for the
  challenge's model and are rescaled for smaller models.
* **Sources**: papers, and pull requests (PR) of openai/parameter-golf.
* **Measured**: the effect on bits per byte in [the worked ablation](ablation.md), ± half of the 95 % interval; negative is
  better. That was 40 steps of a small model. It says nothing about full scale.
* **Doubt**: what one should know before believing the technique.

"""


# ---------------------------------------------------------------------------------------------------- events of mkdocs


def on_startup(**_: Any) -> None:
    """Lay the packages out as they are imported, so that mkdocstrings finds their sources without importing them."""
    tree = ROOT / "build" / "api" / "golflab"
    tree.mkdir(parents=True, exist_ok=True)
    for path in [*(ROOT / "golflab").glob("*.py"), *(ROOT / wing for wing in ("model", "spaces", "search", "analysis"))]:
        if not (tree / path.name).exists():
            (tree / path.name).symlink_to(path)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, text in (("techniques.md", catalogue_page()), ("api.md", api_page())):
        files.append(File.generated(config, name, content=text))
    with tempfile.TemporaryDirectory() as place:
        for name, path in write_examples(Path(place)).items():
            files.append(File.generated(config, name, content=path.read_bytes()))
    return files


# ---------------------------------------------------------------------------------------------------- the pages


def catalogue_page() -> str:
    """Every technique, by stage and slot, as Markdown."""
    from golflab.model.technique import catalogue

    users, effects = _users(), _measured()
    parts, stage = [HEAD], ""
    for name, technique in catalogue().items():
        if technique.stage() != stage:
            stage = technique.stage()
            parts.append(f"## {TITLES[stage]}\n\n")
        parts.append(_entry(name, technique, users.get(name, []), effects.get(name, "")))
    return "".join(parts)


def api_page() -> str:
    """What `import golflab` offers, with the docstrings."""
    import golflab

    parts = [
        "# API: what `import golflab` offers\n\n"
        "`import golflab` is quick: each name is imported when it is first used. `analysis/notebooks/tour.ipynb` shows all of "
        "them on one small experiment. The packages behind the names are `golflab.model`, `golflab.spaces`, `golflab.search` "
        "and `golflab.analysis`.\n\n"
    ]
    for name in golflab._OFFERED:
        shown = {"heading": f"golflab.{name}", "toc_label": name, "show_root_heading": "true", "heading_level": 2}
        options = "".join(f"      {key}: {value}\n" for key, value in shown.items())
        parts.append(f"::: {_home(name, golflab._OFFERED[name])}\n    options:\n{options}\n")
    return "".join(parts)


def write_examples(folder: Path) -> dict[str, Path]:
    """Write the reports of the worked examples from their records: name -> file."""
    import pandas as pd

    from golflab.analysis.report.page import ladder_page
    from golflab.analysis.report.report import report

    written = {}
    for name, records in EXAMPLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = report(ROOT / "docs" / records).html(path)
    for records in sorted(LADDERS.glob("*.csv.gz")):
        name = f"ladder/{records.name.removesuffix('.csv.gz')}.html"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        runs = pd.read_csv(records, keep_default_na=False, na_values=dict.fromkeys(("se_documents", "seconds", "bytes"), ""))
        (folder / name).write_text(ladder_page(records.name.removesuffix(".csv.gz"), runs))
        written[name] = folder / name
    return written


# ---------------------------------------------------------------------------------------------------- their parts


def _entry(name: str, technique: Any, users: list[str], effect: str) -> str:
    """One technique."""
    from golflab.model.slots import SLOTS

    slot = SLOTS[technique.slot]
    text, _, attributes = inspect.cleandoc(technique.__doc__ or "").partition("\nAttributes:\n")
    lines = [f"### {name}\n\n{_paragraphs(text)}\n"]
    default = ", *default*" if slot.default == name else ""
    lines.append(f"* **Slot**: `{slot.name}`{default} – {_escaped(slot.takes)}")
    if knobs := _knobs(technique, _described(attributes)):
        lines += ["* **Knobs**:", *(f"    * {line}" for line in knobs)]
    if technique.sources:
        lines.append(f"* **Sources**: {_escaped(', '.join(technique.sources))}")
    for word, others in (("Clashes with", technique.clashes), ("Needs", technique.needs)):
        lines += [f"* **{word}** `{other}`: {_escaped(reason)}" for other, reason in others.items()]
    if published := getattr(technique, "published", ()):
        lines.append(f"* **Published effects**: {_escaped('; '.join(map(str, published)))}")
    if effect:
        lines.append(f"* **Measured**: {effect}")
    if technique.doubt:
        lines.append(f"* **Doubt**: {_escaped(technique.doubt)}")
    if users:
        lines.append(f"* **Used by**: {', '.join(f'`{user}`' for user in users)}")
    return "\n".join(lines) + "\n\n"


def _paragraphs(docstring: str) -> str:
    """A docstring as Markdown: its first line in bold."""
    first, _, rest = docstring.partition("\n")
    return f"**{_escaped(first)}**\n{_escaped(rest)}\n"


def _described(attributes: str) -> dict[str, str]:
    """Knob -> what the docstring's section of attributes says of it."""
    found: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        if start := re.match(r" {4}(\w+): +(.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _escaped(text: str) -> str:
    """Text as Markdown shows it unchanged; what stands in backquotes is code already."""
    parts = text.replace("``", "`").split("`")
    return "`".join(p if k % 2 else re.sub(r"((?<!\*)\*(?!\*)|[_<\[\]\\|])", r"\\\1", p) for k, p in enumerate(parts))


def _knobs(technique: Any, described: dict[str, str]) -> list[str]:
    """Name, default, range and meaning of each knob."""
    lines = []
    for spec in dataclasses.fields(technique):
        rule = spec.metadata["knob"]
        if rule.choices:
            allowed = "one of " + ", ".join(f"`{_plain(choice)}`" for choice in rule.choices)
        else:
            allowed = f"{_plain(rule.low)} to {_plain(rule.high)}{', log' if rule.log else ''}"
        faults = ", ".join(f"`{_plain(fault)}`" for fault in rule.faults)
        allowed += f"; {faults} only to reproduce a published fault" if faults else ""
        meaning = f": {_escaped(described[spec.name])}" if spec.name in described else ""
        lines.append(f"`{spec.name}` = {_plain(spec.default)} ({allowed}){meaning}")
    return lines


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _users() -> dict[str, list[str]]:
    """Technique -> the presets that name it."""
    from golflab.spaces.presets import PRESETS

    found: dict[str, list[str]] = {}
    for label, recipe in PRESETS.items():
        for technique in recipe.techniques:
            found.setdefault(technique.name, []).append(label)
    return found


def _measured() -> dict[str, str]:
    """Technique -> its effect in the worked ablation, in words."""
    from golflab.analysis.effects.contribution import contribution
    from golflab.analysis.table import load

    table = contribution(load(SCREEN))
    known = table[table["se"].notna()]
    return {
        row.technique: f"{row.delta_bpb:+.4f} ± {row.high - row.delta_bpb:.4f} bits per byte, {row.bytes:+,.0f} bytes"
        for row in known.itertuples()
    }


def _home(name: str, module: str) -> str:
    """Where mkdocstrings finds what is offered under a name."""
    special = {
        "search": "golflab.search.experiment.start.search",
        "plots": "golflab.analysis.report.plots",
        "published": "golflab.analysis.evidence.published",
    }
    return special.get(name, f"{module}.{name}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for written in write_examples(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples")).values():
        print(written)
