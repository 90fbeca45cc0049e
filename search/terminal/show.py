"""Results on a terminal, and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from golflab.model.schema import damaged_in_words
from golflab.model.system.wording import number_of, was
from golflab.search.engine.running import in_words
from golflab.search.terminal.plain import literal, say

if TYPE_CHECKING:  # their import is slow, and `golflab --help` needs none of them
    from golflab.model.compression.forecast import Bill
    from golflab.model.recipe import Recipe
    from golflab.model.record import Record


def emit(body: Any) -> None:
    """Print a JSON value on stdout, and nothing else."""
    print(json.dumps(body, allow_nan=False))


def table(title: str, columns: dict[str, str], rows: list[list[str]]) -> Table:
    """A plain table; ``columns`` maps each heading to ``left`` or ``right``."""
    grid = Table(title=literal(title), title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name, side in columns.items():
        grid.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in rows:
        grid.add_row(*map(literal, row))
    return grid


def record(console: Console, done: Record) -> None:
    """Print the result of a single run."""
    lines = {
        "state": done.state + (f" ({done.reason})" if done.reason else ""),
        "bits per byte": "–"
        if done.bpb is None
        else f"{done.bpb:.4f} from the unpacked artifact"
        + ("" if done.bpb_float is None else f", {done.bpb_float:.4f} before quantisation"),
        "bytes": "–" if done.bytes is None else f"{done.bytes:,} of {done.spec['limit']:,}, {done.code_bytes:,} of them code",
        "with tokenizer": "–"
        if done.bytes_with_tokenizer is None
        else f"{done.bytes_with_tokenizer:,}, {done.tokenizer_bytes:,} of them its file, which the challenge does not count",
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
        say(console, f"{key:>14}  {value}")


def recipe(console: Console, shown: Recipe, code_bytes: int) -> None:
    """Print a recipe: shape, schedule, the forward pass, and every technique with sources and doubt.

    ``code_bytes`` is the length of the script that travels.
    """
    from golflab.model.data.prepare import rewriting_of
    from golflab.model.data.tokenizer import forecast_bytes
    from golflab.search.terminal.print_forward import forward

    for part in ("shape", "schedule", "data"):
        text = ", ".join(
            f"{key} {value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{key} {value}"
            for key, value in vars(getattr(shown, part)).items()
        )
        say(console, f"{part:>10}  {text}")
    say(console, f"{'limit':>10}  {shown.limit:,} bytes, seed {shown.seed}, recipe {shown.hash}")
    tokenizer = forecast_bytes(shown.data.tokenizer, shown.shape.vocabulary, rewriting_of(shown))
    text = f"{code_bytes:,} bytes, which count with the weights; the tokenizer's {tokenizer:,} or so do not"
    say(console, f"{'code':>10}  {text}")
    say(console, "\nThe forward pass", style="bold")
    for line in forward(shown):
        say(console, f"    {line}")
    filled = shown.all_techniques()
    say(console, f"\n{shown.name}: {number_of(len(filled), 'technique')}", style="bold")
    for t in filled:
        settings = ", ".join(f"{key}={value}" for key, value in t.settings().items())
        say(console, f"\n{t.name}({settings})  [{t.stage()} · {t.slot}]")
        for word, text in (("", t.summary()), ("sources: ", ", ".join(t.sources)), ("doubt: ", t.doubt)):
            if text:
                console.print(Padding(literal(word + text), (0, 0, 0, 4)))


def cost(console: Console, shown: Recipe, bill: Bill, marginal: dict[str, int]) -> None:
    """Print the forecast bytes by tensor, by kind and in total, and the bytes of a larger model."""
    rows = [
        [line.name, line.kind, f"{line.count:,}", f"{line.bits:.2f}", f"{line.bytes:,}", f"{line.share:.1%}"]
        for line in bill.lines
    ]
    rows += [["(container)", "", "", "", f"{bill.header_bytes:,}", ""], ["(code)", "", "", "", f"{bill.code_bytes:,}", ""]]
    rows += [["(tokenizer, not counted)", "", "", "", f"{bill.tokenizer_bytes:,}", ""]]
    columns = {
        "tensor": "left",
        "kind": "left",
        "parameters": "right",
        "bits each": "right",
        "bytes": "right",
        "share": "right",
    }
    console.print(table(f"{shown.name}: bytes by tensor", columns, rows))
    kinds = [[role, f"{count:,}", f"{size:,}"] for role, (count, size) in bill.by_kind().items()]
    console.print(table("by kind", {"kind": "left", "parameters": "right", "bytes": "right"}, kinds))
    total = bill.total
    verdict = "fits" if total.high <= shown.limit else "may fit" if total.low <= shown.limit else "does not fit"
    say(
        console,
        f"{bill.parameters:,} parameters, {total.mid:,} bytes ({total.low:,} … {total.high:,}) of {shown.limit:,}: {verdict}. "
        f"With the tokenizer, which the challenge does not count, {total.mid + bill.tokenizer_bytes:,}. "
        f"One more MLP unit in every layer: {marginal['mlp_unit']:+,} bytes; one more layer: {marginal['layer']:+,}.",
    )


def status(console: Console, summary: dict[str, Any]) -> None:
    """Print the state of a search."""
    from golflab.search.engine.standing import UNBOUNDED

    counts, reason = summary["counts"], summary["reason"].removeprefix(summary["state"]).lstrip(";, ")
    refused, over, trials = counts["not_fitting"], counts.get("over_limit", 0), summary["trials"]
    wanted = f" of {number_of(trials, 'trial')}" if type(trials) is int and trials < UNBOUNDED else ""
    lines = [
        f"{summary['name']}: {summary['state']}{', ' if reason else ''}{reason}. {summary['seconds']:.0f} s of wall time.",
        f"{counts['complete']} complete, {counts['pruned']} pruned, {counts['failed']} failed, "
        f"{len(summary['running'])} running{wanted}; {counts['trained']} trained; "
        f"{refused} of {number_of(counts['asked'], 'combination')} could not fit and {was(refused)} not started; "
        f"{over} {was(over)} stopped because the measured bytes exceeded the limit.",
    ]
    if spent := summary["spent"]:
        bound = f"; the budget was {summary['budget']}" if summary["budget"] else ""
        reused = counts["complete"] + counts["pruned"] + counts["failed"] - counts["trained"]
        free = f"; {number_of(reused, 'trial')} reused a training or never trained" if reused > 0 else ""
        summed = f"{spent['seconds']:.0f} s of training summed over all workers"
        lines.append(f"spent: {number_of(spent['trainings'], 'training')}, {summed}{free}{bound}.")
    lines += [rung["words"] for rung in summary["rungs"]]
    if best := summary["best"]:
        what = f"recipe {best['recipe']}: {' '.join(best['techniques'])}"
        lines.append(f"best: {best['bpb']:.4f} bpb, {best['bytes']:,} bytes, {what}")
    if damaged := damaged_in_words(summary.get("damaged", [])):
        lines.append(damaged)
    for line in lines:
        say(console, line)
    for row in summary["running"]:
        doing = in_words(row) if "stage" in row else f"step {row['step']}"
        score = "" if row["bpb"] is None else f", {row['bpb']:.4f} bpb"
        say(console, f"running: trial {row['trial']}, recipe {row['recipe']}, {doing}{score}, {row['seconds']:.0f} s")
    for row in summary["failed"]:
        name = row["recipe"] or f"trial {row['trial']}"
        say(console, f"failed: {name}: {row['reason']}" + (f"  ({row['log']})" if row["log"] else ""))
    if summary["state"] in ("interrupted", "out of budget") and summary["resume"] not in reason:  # it is said once
        say(console, f"continue with: {summary['resume']}")


def trial(console: Console, facts: dict[str, Any]) -> None:
    """Print one trial of a search."""
    say(console, f"trial {facts['trial']}: {facts['state']}" + (f": {facts['reason']}" if facts["reason"] else ""))
    score = "no score" if facts["bpb"] is None else f"{facts['bpb']:.4f} bpb"
    size = "no measured size" if facts["bytes"] is None else f"{facts['bytes']:,} bytes"
    where = f", {facts['folder']}" if facts["folder"] else ""
    say(console, f"recipe {facts['recipe'] or 'unknown'}, {score}, {size}{where}")


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


def corpus(console: Console, description: dict[str, Any]) -> None:
    """Print the description of a corpus."""
    say(console, f"{description['corpus']} ({description['kind']}, {description['fingerprint']})")
    for split, counts in description["splits"].items():
        say(console, f"{split:>10}  " + ", ".join(f"{value:,} {key}" for key, value in counts.items()))
    from golflab.model.data.overlap import share_in_words

    found = description["overlap"]
    for split in found["splits"]:
        say(console, f"{split:>10}  also in train: {share_in_words(found, split)}")
    for note in description["notes"]:
        say(console, note)
