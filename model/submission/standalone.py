"""What an exported script does when it is run: score an artifact in a fresh process, or train a new one.

`golflab.model.submission.script` packs this module and everything it imports into one file. It contains nothing of the search,
the stage cache or the records.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.compression.artifact import unpack
from golflab.model.compression.finish import artifact
from golflab.model.data.prepare import TokenData, prepared, rewriting_of
from golflab.model.data.tokenizer import Tokenizer, tokenizer_of
from golflab.model.evaluation.score import evaluate
from golflab.model.network.gpt import GPT
from golflab.model.network.weights import empty_model, load_weights
from golflab.model.recipe import Recipe, counted_code
from golflab.model.system.device import Place
from golflab.model.system.files import write_atomic
from golflab.model.training.loop import source_of, train


def main(body: dict[str, Any], code_bytes: int) -> None:
    """Read the command line, do what it asks and print one JSON object.

    Args:
        body: the recipe as JSON.
        code_bytes: length of the script itself.
    """
    options = _options()
    recipe = Recipe.from_json(body).with_(corpus=options.corpus or body["data"]["corpus"])
    if options.tokenizer:
        recipe = recipe.with_(tokenizer=options.tokenizer)
    code_bytes = counted_code(recipe, code_bytes)
    try:
        results = _train(recipe, options, code_bytes) if options.train else {}
        print(json.dumps(results | _score(recipe, options, code_bytes)))
        print(_said(recipe.data.split, options), file=sys.stderr)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score an artifact of this recipe, or train one.")
    parser.add_argument("--artifact", type=Path, default=Path("model.bin"), help="the packed weights")
    parser.add_argument("--train", action="store_true", help="train and write the artifact first")
    parser.add_argument("--text", type=Path, help="UTF-8 text to score as one document instead of the corpus' held-out part")
    parser.add_argument("--corpus", help="corpus to train and score on instead of the recipe's")
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="which held-out part to score")
    parser.add_argument("--tokenizer", help="SentencePiece .model file instead of the recipe's")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder for the tokenizer and tokens")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="auto is the faster one here")
    return parser.parse_args()


def _model(recipe: Recipe, options: argparse.Namespace) -> GPT:
    place = Place.choose(options.device, options.dtype)
    return empty_model(recipe, place.device, place.dtype)


def _data(recipe: Recipe, options: argparse.Namespace) -> TokenData:
    return prepared(recipe, options.cache, inspected=False)


def _train(recipe: Recipe, options: argparse.Namespace, code_bytes: int) -> dict[str, Any]:
    data, place = _data(recipe, options), Place.choose(options.device, options.dtype)
    source = source_of(recipe, data.train)
    done = train(recipe, source, device=place.device, dtype=place.dtype, on_step=lambda point: print(point, file=sys.stderr))
    weights = done.chosen(recipe.technique_in("average"))
    write_atomic(options.artifact, artifact(recipe, _model(recipe, options), weights, data.train, code_bytes))
    return {"tokens": done.tokens, "seconds": done.seconds}


def _score(recipe: Recipe, options: argparse.Namespace, code_bytes: int) -> dict[str, Any]:
    blob, model = options.artifact.read_bytes(), _model(recipe, options)
    weights = unpack(blob)
    for name, parameter in model.named_parameters():
        if name not in weights or weights[name].shape != parameter.shape:
            raise ValueError(f"{options.artifact}: it holds no fitting tensor {name!r}; it was packed by another recipe.")
    load_weights(model, weights)
    tokenizer, documents, counts = _documents(recipe, options)
    score = evaluate(model, documents, tokenizer, recipe, counts=counts)
    results = {"bpb": score.bpb, "bytes": len(blob) + code_bytes, "code_bytes": code_bytes}
    results |= {"tokenizer_bytes": (extra := len(tokenizer.proto)), "bytes_with_tokenizer": results["bytes"] + extra}
    return results | {"scored": options.split if options.text is None else str(options.text)}


def _said(split: str, options: argparse.Namespace) -> str:
    """Which text was scored, and how the score relates to the record beside the script, which is of the recipe's split."""
    if options.text is not None:
        return f"bpb is of {options.text}; record.json has the score of the {split} part."
    if options.split == split:
        return f"bpb is of the {split} part, as in record.json."
    return f"bpb is of the {options.split} part; record.json has the score of the {split} part: --split {split} repeats that."


def _documents(recipe: Recipe, options: argparse.Namespace) -> tuple[Tokenizer, list[np.ndarray], list[np.ndarray] | None]:
    """The tokenizer, what is scored, and the bytes its tokens stand for where the tokenizer cannot tell."""
    if options.text is None:
        data = _data(recipe, options)
        return data.tokenizer, data.split(options.split), data.counts.get(options.split)
    if options.tokenizer:
        tokenizer = tokenizer_of(Path(options.tokenizer).read_bytes(), rewriting_of(recipe))
    else:
        tokenizer = _data(recipe, options).tokenizer
    if not getattr(tokenizer, "lossless", True):
        raise ValueError(f"{options.text}: the tokenizer normalises text, so its tokens do not tell the bytes of the original.")
    return tokenizer, [tokenizer.encode(options.text.read_bytes().decode())], None
