"""Script: the code that is submitted with the weights, as one Python file.

The file contains the recipe as text, and the source of exactly the modules that it needs, without comments and docstrings,
compressed into one string. When it runs, it unpacks them into a temporary folder and calls
`golflab.model.submission.standalone`. Its length is the recipe's code bytes. The same recipe always gives the same bytes.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import lzma

from golflab.model.recipe import Recipe, counted_code
from golflab.model.slots import STAGES
from golflab.model.system.sources import ROOT, closure, path_of, source

START = "golflab.model.submission.standalone"
# Only search, report and export use these modules; an exported script runs without them.
LEFT_BEHIND = {
    "golflab.model.submission.script",
    "golflab.model.evaluation.resume",
    "golflab.model.compression.forecast",
    "golflab.model.compression.calibration",
    "golflab.model.variants",
    "golflab.model.ways",
}
LEFT_BEHIND |= {"golflab.model.data.inspection", "golflab.model.data.overlap", "golflab.model.system.sources"}
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "pb": 0, "dict_size": 1 << 24}]

LOADER = '''\
"""{title}

This file is complete: the model's code is packed below and unpacked into a temporary folder when it runs.
Score an artifact:  python {file} --artifact model.bin --text FILE
Train a new one:    python {file} --train --artifact model.bin
"""
import base64, json, lzma, os, sys, tempfile

RECIPE = r"""{recipe}"""
SOURCE = "{source}"

if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory()
    filters = [{{"id": lzma.FILTER_LZMA2, "lc": 4, "pb": 0, "dict_size": 1 << 24}}]
    files = json.loads(lzma.decompress(base64.b85decode(SOURCE), lzma.FORMAT_RAW, filters=filters))
    for name, text in files.items():
        path = os.path.join(folder.name, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    sys.path.insert(0, folder.name)
    from {start} import main

    main(json.loads(RECIPE), os.path.getsize(__file__))
'''


def script(recipe: Recipe, file: str = "train_gpt.py") -> bytes:
    """The recipe as one self-contained Python file, UTF-8.

    Args:
        recipe: what it trains and scores.
        file: the name its help text uses.
    """
    text = LOADER.format(
        title=f"A golflab model, recipe {recipe.hash}.",
        file=file,
        recipe=_told(recipe),
        source=_packed(carried(recipe)),
        start=START,
    )
    return text.encode()


@functools.lru_cache(maxsize=4096)
def code_bytes(recipe: Recipe) -> int:
    """What of `script` counts, quickly: of the defaults' length, plus what each technique adds to it or saves of it alone.

    Within 1 % of `exact_code_bytes`, which a finished run's record holds; a search asks this for hundreds of candidates.
    """
    defaults, mine = _modules(Recipe()), _modules(recipe)
    bare = _length(defaults)
    added = sum(_length(defaults | {name}) - bare for name in mine - defaults)
    saved = sum(bare - _length(defaults - {name}) for name in defaults - mine)
    return counted_code(recipe, bare + added - saved + len(_told(recipe)))


def exact_code_bytes(recipe: Recipe) -> int:
    """Bytes of `script` that count towards the recipe's limit: see `golflab.model.recipe.counted_code`."""
    return counted_code(recipe, len(script(recipe)))


@functools.lru_cache(maxsize=512)
def _length(techniques: frozenset[str]) -> int:
    return len(_packed(_closure({START, *techniques}))) + len(LOADER)


def _told(recipe: Recipe) -> str:
    return json.dumps(recipe.to_json() | {"name": ""}, sort_keys=True, separators=(",", ":"))


def _modules(recipe: Recipe) -> frozenset[str]:
    """Dotted names of the modules of the recipe's techniques, slot defaults included."""
    return frozenset(type(t).__module__ for t in recipe.all_techniques())


def carried(recipe: Recipe) -> frozenset[str]:
    """Dotted names of the modules in the script: what the start module and the recipe's techniques import."""
    return _closure({START, *_modules(recipe)})


def _closure(names: set[str]) -> frozenset[str]:
    # `technique.find` searches every stage's folder, so all of them must exist; most are empty.
    return (
        closure(names, without=LEFT_BEHIND)
        | {f"golflab.model.techniques.{stage}" for stage in STAGES}
        | {"golflab.model.techniques"}
    )


@functools.lru_cache(maxsize=1024)
def _packed(modules: frozenset[str]) -> str:
    """The modules' stripped sources as one base-85 string; similar ones side by side, which compresses better."""
    order = sorted(modules, key=lambda name: (name.count("."), name))
    files = {"golflab/__init__.py": ""}  # not the one that was installed, if any
    files |= {f"golflab/{path_of(name).relative_to(ROOT).as_posix()}": _stripped(name) for name in order}
    raw = json.dumps(files, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.b85encode(lzma.compress(raw, lzma.FORMAT_RAW, filters=FILTERS)).decode()


@functools.cache
def _stripped(name: str) -> str:
    """A module's source without comments, docstrings, annotations of functions, sources and doubts."""
    return ast.unparse(_Stripper().visit(ast.parse(source(name))))


class _Stripper(ast.NodeTransformer):
    """Removes what only readers need. Annotations of class fields stay, since dataclasses need them."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        dropped = {"sources", "doubt"}
        node.body = [
            s for s in node.body if not (isinstance(s, ast.AnnAssign) and getattr(s.target, "id", "") in dropped and s.value)
        ]
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if not node.body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]
        return self.generic_visit(node)
