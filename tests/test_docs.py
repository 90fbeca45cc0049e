"""What the documentation names exists: files, modules, commands and their options; and its generated pages are complete."""

import importlib.util
import re
from pathlib import Path

import pytest
from typer.main import get_command

from golflab.model.technique import catalogue
from golflab.search.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
FOLDERS = ("analysis", "benchmarks", "docs", "examples", "golflab", "model", "search", "spaces", "tests")
MADE = {"docs/techniques.md", "docs/api.md", "docs/seeds/report.html", "docs/ablation/screen.html"}  # by docs/generate.py
MADE |= {f"docs/ladder/{path.name.removesuffix('.csv.gz')}.html" for path in ROOT.glob("docs/ladder/*.csv.gz")}


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    targets = [(page.parent / link).resolve() for link in links if "://" not in link]
    missing = [t for t in targets if not t.exists() and str(t.relative_to(ROOT)) not in MADE]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_a_page_names_exist(page):
    text = page.read_text()
    named = re.finditer(rf"(?<![\w./<-])(?:{'|'.join(FOLDERS)})/[\w/.-]*\w", text)
    files = {n[0] for n in named if text[n.end() : n.end() + 1] not in ("<", "*")}  # these go on with what a reader puts in
    assert not [f for f in files - MADE if not (ROOT / f).exists()]
    for name in set(re.findall(r"\bgolflab(?:\.[a-z_]\w*)+", text)):
        assert _exists(name), f"{page.name} names {name}"
    for name in set(re.findall(r"python -m (benchmarks\.\w+|examples\.\w+)", text)):
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").exists(), name


def _exists(dotted: str) -> bool:
    """Whether a dotted name begins with a module of this repository and goes on with a name in it."""
    parts = dotted.split(".")[1:]
    place = ROOT
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place /= f"{parts.pop(0)}.py"
    source = (
        place if place.is_file() else ROOT / "golflab" / "__init__.py" if place == ROOT else place / "__init__.py"
    ).read_text()
    return not parts or bool(re.search(rf"\b{parts[0]}\b", source))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_a_page_shows_exist(page):
    group = get_command(app)
    for line in _commands(page.read_text()):
        words = line.split()
        command = group.get_command(None, words[0])
        assert command is not None, f"{page.name}: golflab {line}"
        if hasattr(command, "commands") and len(words) > 1:
            command = command.get_command(None, words[1])
            assert command is not None, f"{page.name}: golflab {line}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {w.partition("=")[0] for w in words if w.startswith("--")} <= known, f"{page.name}: golflab {line}"


def _commands(text: str) -> list[str]:
    """What follows ``golflab`` in shell blocks and in code, without comments and examples' dots."""
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, flags=re.S)
    lines = [
        part
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        for part in re.split(r"\s{4,}", line.strip())
    ]
    shown = [line for line in lines if line.startswith("golflab ")]
    shown += [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith("golflab ")]
    found = [line.partition("#")[0].removeprefix("golflab ").strip() for line in shown]
    return [line for line in found if line and re.match(r"[a-z]", line)]


def test_every_page_has_a_place_in_the_site():
    nav = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.M)
    pages = {path.name for path in ROOT.glob("docs/*.md")} | {
        name.removeprefix("docs/") for name in MADE if name.endswith(".md")
    }
    assert sorted(nav) == sorted(pages)


def test_the_catalogue_page_holds_every_technique_with_its_knobs_and_doubt(generate):
    page = generate.catalogue_page()
    for name, technique in catalogue().items():
        entry = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert f"`{technique.slot}`" in entry, name
        assert all(f"`{knob}` = " in entry for knob in technique.knobs()), name
        assert bool(technique.doubt) == ("**Doubt**" in entry), name


def test_the_api_page_holds_every_name_that_is_offered(generate):
    import golflab

    headings = re.findall(r"heading: golflab\.(\w+)", generate.api_page())
    assert sorted(headings) == golflab.__all__


def test_a_worked_example_is_made_from_its_records_and_is_small(generate, tmp_path, monkeypatch):
    """One of each kind: `test_ladder_check` has a ladder's page."""
    monkeypatch.setattr(generate, "EXAMPLES", {"ablation/screen.html": generate.EXAMPLES["ablation/screen.html"]})
    monkeypatch.setattr(generate, "LADDERS", tmp_path)
    (path,) = generate.write_examples(tmp_path).values()
    assert 1_000_000 < path.stat().st_size <= 1_500_000


@pytest.mark.full
def test_all_worked_examples_are_made_from_their_records_and_are_small(generate, tmp_path):
    written = generate.write_examples(tmp_path)
    assert len(written) > len(generate.EXAMPLES)
    assert all(1_000_000 < path.stat().st_size <= 1_500_000 for path in written.values())
