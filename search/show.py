"""How results look on a terminal, and as JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model.forecast import Bill
from model.recipe import Recipe
from model.record import Record
from model.technique import SLOTS
from search.forward import forward


def emit(body: Any) -> None:
    """Print a JSON value on stdout, and nothing else."""
    print(json.dumps(body, allow_nan=False))


def table(title: str, columns: dict[str, str], rows: list[list[str]]) -> Table:
    """A plain table; columns map a heading to ``left`` or ``right``."""
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name, side in columns.items():
        grid.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in rows:
        grid.add_row(*row)
    return grid


def record(console: Console, done: Record) -> None:
    """Print what a single run left."""
    lines = {
        "state": done.state + (f" ({done.reason})" if done.reason else ""),
        "bits per byte": "–"
        if done.bpb is None
        else f"{done.bpb:.4f} from the unpacked artifact"
        + ("" if done.bpb_float is None else f", {done.bpb_float:.4f} before quantisation"),
        "bytes": "–" if done.bytes is None else f"{done.bytes:,} of {done.spec['limit']:,}, {done.code_bytes:,} of them code",
        "forecast": "–"
        if not done.bytes_forecast
        else " … ".join(f"{done.bytes_forecast[k]:,.0f}" for k in ("low", "mid", "high")),
        "parameters": f"{done.parameters:,}" if done.parameters else "–",
        "training": f"{done.tokens:,} tokens in {done.seconds:.1f} s" if done.tokens and done.seconds is not None else "–",
        "recipe": done.recipe,
    }
    for note in done.notes:
        lines["note"] = note
    for key, value in lines.items():
        console.print(f"{key:>14}  {value}", highlight=False, soft_wrap=True)


def recipe(console: Console, shown: Recipe) -> None:
    """Print a recipe: body plan, schedule, the forward pass with its tenants, and every technique with source and doubt."""
    for part in ("shape", "schedule", "data"):
        told = ", ".join(
            f"{key} {value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{key} {value}"
            for key, value in vars(getattr(shown, part)).items()
        )
        console.print(f"{part:>10}  {told}", highlight=False, soft_wrap=True)
    console.print(f"{'limit':>10}  {shown.limit:,} bytes, seed {shown.seed}, recipe {shown.hash}", highlight=False)
    console.print("\nThe forward pass", style="bold", highlight=False)
    for line in forward(shown):
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
    filled = [t for slot in SLOTS.values() for t in shown.tenants(slot.name)]
    console.print(f"\n{shown.name}: {len(filled)} techniques", style="bold", highlight=False)
    for t in filled:
        settings = ", ".join(f"{key}={value}" for key, value in t.settings().items())
        console.print(f"\n{t.name}({settings})  [{t.stage()} · {t.slot}]", markup=False, highlight=False, soft_wrap=True)
        for word, told in (("", t.summary()), ("sources: ", ", ".join(t.sources)), ("doubt: ", t.doubt)):
            if told:
                console.print(Padding(Text(word + told), (0, 0, 0, 4)))


def cost(console: Console, shown: Recipe, bill: Bill, marginal: dict[str, int]) -> None:
    """Print the byte bill: by tensor, by kind, in total, and what more body would cost."""
    rows = [
        [line.name, line.kind, f"{line.count:,}", f"{line.bits:.2f}", f"{line.bytes:,}", f"{line.share:.1%}"]
        for line in bill.lines
    ]
    rows += [["(container)", "", "", "", f"{bill.header_bytes:,}", ""], ["(code)", "", "", "", f"{bill.code_bytes:,}", ""]]
    columns = {
        "tensor": "left",
        "kind": "left",
        "parameters": "right",
        "bits each": "right",
        "bytes": "right",
        "share": "right",
    }
    console.print(table(f"{shown.name}: the byte bill", columns, rows))
    kinds = [[role, f"{count:,}", f"{size:,}"] for role, (count, size) in bill.by_kind().items()]
    console.print(table("by kind", {"kind": "left", "parameters": "right", "bytes": "right"}, kinds))
    total = bill.total
    verdict = "fits" if total.high <= shown.limit else "may fit" if total.low <= shown.limit else "does not fit"
    console.print(
        f"{bill.parameters:,} parameters, {total.mid:,} bytes ({total.low:,} … {total.high:,}) of {shown.limit:,}: {verdict}. "
        f"One more MLP unit in every layer: {marginal['mlp_unit']:+,} bytes; one more layer: {marginal['layer']:+,}.",
        highlight=False,
        soft_wrap=True,
    )


def status(console: Console, told: dict[str, Any]) -> None:
    """Print how a search stands."""
    counts, reason = told["counts"], ", " + told["reason"] if told["reason"] else ""
    lines = [
        f"{told['name']}: {told['state']}{reason}. {told['seconds']:.0f} s.",
        f"{counts['complete']} complete, {counts['pruned']} pruned, {counts['failed']} failed, "
        f"{len(told['running'])} running of {told['trials']} trials; {counts['trained']} trained; "
        f"{counts['not_fitting']} of {counts['asked']} combinations could not fit and were never started; "
        f"{counts.get('over_limit', 0)} measured over the limit and were stopped.",
    ]
    if spent := told["spent"]:
        bound = f" of a budget of {told['budget']}" if told["budget"] else ""
        reused = counts["complete"] + counts["pruned"] + counts["failed"] - counts["trained"]
        free = f"; {reused} trials trained nothing" if reused > 0 else ""
        lines.append(f"spent: {spent['trainings']:g} trainings, {spent['seconds']:.0f} s of training{bound}{free}.")
    lines += [rung["words"] for rung in told["rungs"]]
    if best := told["best"]:
        what = f"recipe {best['recipe']}: {' '.join(best['techniques'])}"
        lines.append(f"best: {best['bpb']:.4f} bpb, {best['bytes']:,} bytes, {what}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    for row in told["running"]:
        score = "" if row["bpb"] is None else f", {row['bpb']:.4f} bpb"
        console.print(
            f"running: trial {row['trial']}, recipe {row['recipe']}, step {row['step']}{score}, {row['seconds']:.0f} s",
            highlight=False,
        )
    for row in told["failed"]:
        console.print(f"failed: {row['recipe']}: {row['reason']}  ({row['log']})", highlight=False, soft_wrap=True)
    if told["state"] == "interrupted":
        console.print(f"continue with: {told['resume']}", highlight=False)


def presets(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the presets."""
    body = []
    for row in rows:
        s = row["shape"]
        plan = f"{s['layers']}L {s['width']} {s['heads']}/{s['kv_heads']} F{s['hidden']} V{s['vocabulary']} T{s['context']}"
        body.append([row["name"], plan, " ".join(row["techniques"])])
    console.print(table("presets", dict.fromkeys(("name", "body", "techniques"), "left"), body))


def techniques(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the catalogue."""
    body = [[r["stage"], r["slot"], r["name"], ", ".join(r["knobs"]), r["summary"], ", ".join(r["used_by"])] for r in rows]
    columns = dict.fromkeys(("stage", "slot", "name", "knobs", "effect", "used by"), "left")
    console.print(table(f"{len(rows)} techniques", columns, body))


def spaces(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the ready-made spaces."""
    body = [[r["name"], str(r["parameters"]), r["summary"]] for r in rows]
    console.print(table("spaces", {"name": "left", "parameters": "right", "what varies": "left"}, body))


def corpus(console: Console, told: dict[str, Any]) -> None:
    """Print what a corpus holds."""
    console.print(f"{told['corpus']} ({told['kind']}, {told['fingerprint']})", highlight=False)
    for split, counts in told["splits"].items():
        console.print(f"{split:>10}  " + ", ".join(f"{value:,} {key}" for key, value in counts.items()), highlight=False)
    from model.overlap import said

    found = told["overlap"]
    for split in found["splits"]:
        console.print(f"{split:>10}  also in train: {said(found, split)}", highlight=False, markup=False, soft_wrap=True)
    for note in told["notes"]:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
