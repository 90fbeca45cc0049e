"""What an evaluator brings along undeclared is out of its reach, or seen; who brings nothing is charged with nothing."""

import csv
import functools
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from golflab.model.audit.verdict import Package
from golflab.model.isolation import namespaces as isolation
from golflab.model.isolation import view as isolation_view
from golflab.model.isolation.namespaces import run
from golflab.model.isolation.view import View, view
from golflab.model.isolation.watch import Fresh, verdict_of_files, watch_fresh
from tests import cheats_files as cheats
from tests import honest_files as honest

HERE = Path(__file__).resolve().parent
NAMES = list(cheats.CHEATS)
UNSEEN = {"environment", "standard input", "inherited file"}  # by a tracer; there, nobody passes them on


def package(factory, *arguments, **changes):
    module = "honest_files" if factory in honest.HONEST else "cheats_files"
    code = (HERE / "cheats_files.py", HERE / "honest_files.py")
    return Package(f"tests.{module}:{factory}", arguments, **({"code": code} | changes))


PATH = [os.path.dirname(os.__file__), os.path.join(os.path.dirname(os.__file__), "lib-dynload")]


@functools.cache
def refused(mechanism):
    """Why this system does not lend a mechanism; nothing where it does. Asked when a test begins: it takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        (script := Path(folder) / "up.py").write_text("print('up')")
        try:
            ran = run(mechanism, script, PATH, "", view([script]))
        except OSError as error:
            return str(error)
        return "" if ran.output == "up\n" else ran.problem


here = {
    name: pytest.param(name, marks=pytest.mark.skipif(f"refused({name!r})", reason=f"this system does not lend {name}"))
    for name in isolation.MECHANISMS
}
everywhere = pytest.mark.parametrize("mechanism", [*here.values()])
namespaces = pytest.mark.skipif("refused('namespaces')", reason="this system does not lend namespaces")


@pytest.fixture
def stash(tmp_path):
    made = cheats.Stash(tmp_path)
    yield made
    made.close()


@pytest.fixture
def where(stash):
    return json.dumps(stash.where)


# ---------------------------------------------------------------------- cheats


def test_the_cheats_work_where_nobody_isolates_them(where):
    got = cheats.tries(where).table
    assert {name for name, found in zip(NAMES, got, strict=True) if not found} == {"standard input", "name of a host"}


@namespaces
def test_in_namespaces_no_cheat_gets_anything(stash, where):
    found = watch_fresh(package("tries", where), np.zeros(len(NAMES) + 1), mechanisms=("namespaces",))
    assert found.isolated == "namespaces"
    assert not found.nats.any(), [name for name, got in zip(NAMES, found.nats, strict=True) if got]
    named = {name for name, path in stash.files.items() if path in found.opened}
    assert {"plain file", "map", "shared memory", "file of the system", "settings of the system"} <= named
    assert {"package with text", "code of a package", "record of a library"} <= named
    assert any("the network" in what for what in found.opened)
    assert verdict_of_files(found, package("tries"))[0] == "breach"


@pytest.mark.parametrize("mechanism", [here["strace"]])
def test_a_tracer_names_every_file_and_connection(stash, where, mechanism):
    found = watch_fresh(package("tries", where), np.zeros(len(NAMES) + 1), mechanisms=(mechanism,))
    assert found.isolated == "strace"
    got = {name for name, value in zip(NAMES, found.nats, strict=True) if value}
    assert not got & UNSEEN
    assert {name for name, path in stash.files.items() if path not in found.opened} <= UNSEEN
    told = " ".join(found.opened)
    for port in cheats.SERVED:
        assert f"htons({stash.where[port]})" in told, port
    for what in (f"/proc/{os.getpid()}/environ", "the socket golflab", "shmat"):
        assert what in told


@pytest.mark.parametrize(
    ("name", "mechanism"),
    [
        pytest.param("program", "namespaces", marks=here["namespaces"].marks),
        pytest.param("inherited file", "namespaces", marks=here["namespaces"].marks),
        pytest.param("environment", "strace", marks=here["strace"].marks),
    ],
)
def test_a_cheat_that_starts_only_with_its_secret_is_charged(where, name, mechanism):
    expected = cheats.one(where, name).table[:32]
    found = watch_fresh(package("one", where, name), np.zeros(33), expected, (mechanism,))
    state, evidence = verdict_of_files(found, package("one"))
    assert state == "breach", evidence
    assert "not declared" in evidence or name in evidence or "cat" in evidence
    assert np.allclose(found.nats, expected) or mechanism == "strace"


@namespaces
def test_a_cheat_that_hides_its_failure_is_seen_by_its_scores(where):
    expected = cheats.one(where, "environment").table[:32]
    found = watch_fresh(package("falls_back", where, "environment"), np.zeros(33), expected, ("namespaces",))
    assert verdict_of_files(found, package("one"))[0] == "breach"
    assert "scores differ" in found.opened[0]


def test_without_any_isolation_nothing_passes(where):
    seen = watch_fresh(package("one", where, "plain file"), np.zeros(33), mechanisms=())
    assert verdict_of_files(seen, package("one"))[0] == "breach"
    assert "plain file.bin" in seen.opened[0]
    unseen = watch_fresh(package("one", where, "C library"), np.zeros(33), mechanisms=())
    state, evidence = verdict_of_files(unseen, package("one"))
    assert (state, unseen.isolated) == ("unchecked", "")
    assert "neither by namespaces nor by strace" in evidence


# ---------------------------------------------------------------------- honest


@pytest.fixture
def weights(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    np.save(folder / "weights.npy", np.arange(40.0) / 9)
    return folder / "weights.npy"


def judge(factory, weights, mechanism):
    packed = package(factory, str(weights), files=(weights,))
    found = watch_fresh(packed, np.zeros(33), honest.HONEST[factory](str(weights)).score(np.zeros(33)), (mechanism,))
    return found, *verdict_of_files(found, packed)


@everywhere
@pytest.mark.parametrize("factory", ["scratch", "curious"])
def test_an_honest_evaluator_passes(factory, weights, mechanism):
    found, state, evidence = judge(factory, weights, mechanism)
    assert state == "pass", evidence
    assert found.isolated == mechanism
    assert len(found.nats) == 32


@everywhere
@pytest.mark.full  # `test_audit_recipe` has one that imports torch
@pytest.mark.parametrize("factory", ["light", "tables", "tensors"])
def test_an_honest_evaluator_with_libraries_passes(factory, weights, mechanism):
    found, state, evidence = judge(factory, weights, mechanism)
    assert state == "pass", evidence
    assert {"light": "safetensors", "tables": "pandas", "tensors": "torch"}[factory] in found.modules


def test_an_honest_evaluator_is_not_charged_where_nothing_isolates(weights):
    packed = package("scratch", str(weights), files=(weights,))
    found = watch_fresh(packed, np.zeros(33), mechanisms=())
    assert (found.opened, found.error) == ([], "")
    assert verdict_of_files(found, packed)[0] == "unchecked"


# ---------------------------------------------------------------------- what fails is ours, or theirs


def test_a_mechanism_that_is_refused_is_charged_to_nobody(weights, monkeypatch, tmp_path):
    (tmp_path / "enter.py").write_text("import sys\nprint('mount: no', file=sys.stderr)\nsys.exit(97)\n")
    monkeypatch.setattr(isolation, "ENTER", tmp_path / "enter.py")
    monkeypatch.setattr(isolation.shutil, "which", lambda name: None)
    packed = package("plain", str(weights), files=(weights,))
    found = watch_fresh(packed, np.zeros(33))
    assert (found.error, found.opened, len(found.nats)) == ("", [], 32)
    state, evidence = verdict_of_files(found, packed)
    assert state == "unchecked"
    assert "namespaces: mount: no" in evidence
    assert "strace is not installed" in evidence


@namespaces
def test_a_library_that_we_fail_to_show_is_charged_to_nobody(weights, monkeypatch):
    plan = isolation._plan
    monkeypatch.setattr(
        isolation,
        "_plan",
        lambda folder, command, seen: plan(
            folder, command, View(tuple(p for p in seen.shown if "zstandard" not in p), seen.hidden)
        ),
    )
    packed = package("light", str(weights), files=(weights,))
    found = watch_fresh(packed, np.zeros(33), mechanisms=("namespaces",))
    assert (found.opened, found.isolated, len(found.nats)) == ([], "", 32)
    assert "libraries do not load" in verdict_of_files(found, packed)[1]


def test_one_that_loads_nowhere_is_an_error_and_no_breach(tmp_path):
    packed = package("plain", str(tmp_path / "none.npy"))
    found = watch_fresh(packed, np.zeros(33), mechanisms=isolation.MECHANISMS[:1])
    assert "none.npy" in found.error
    assert verdict_of_files(found, packed)[0] == "unchecked"


def test_the_rule_of_the_verdict():
    nats, packed = np.zeros(3), Package("m:f", files=(Path("a"),))
    assert verdict_of_files(Fresh(nats, ["/x"], unchecked="no"), packed)[0] == "breach"
    assert verdict_of_files(Fresh(nats, [], "failed", "strace"), packed)[0] == "unchecked"
    assert verdict_of_files(Fresh(nats, [], unchecked="no"), packed) == ("unchecked", "no")
    assert verdict_of_files(Fresh(nats, [], isolated="strace"), packed)[0] == "pass"


# ---------------------------------------------------------------------- limits


@pytest.fixture
def script(tmp_path):
    def made(text):
        (tmp_path / "script.py").write_text(text)
        return tmp_path / "script.py"

    return made


SLEEPS = """
import os, time
if not os.fork():
    os.setsid()
    held = bytearray(200_000_000)
    for i in range(0, len(held), 4096):
        held[i] = 1
    while True:
        time.sleep(1)
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize(
    ("mechanism", "limit", "told"),
    [
        pytest.param("namespaces", {"memory": 100_000_000}, "GB of memory", marks=here["namespaces"].marks),
        pytest.param("strace", {"timeout": 1.0}, "longer than", marks=here["strace"].marks),
        ("", {"memory": 100_000_000}, "GB of memory"),
    ],
)
def test_time_and_memory_of_all_processes_are_limited(script, mechanism, limit, told):
    file = script(SLEEPS)
    ran = run(mechanism, file, PATH, "", view([file]), **limit)
    assert told in ran.problem
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(file).encode() in _read(path)]


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@namespaces
def test_a_process_inside_can_do_nothing_outside(script, tmp_path):
    file = script(
        "import ctypes, json, os\n"
        "libc = ctypes.CDLL(None)\n"
        "told = {'root': os.listdir('/'), 'pid': os.getpid(), 'user': os.getuid(), 'names': sorted(os.environ)}\n"
        "told['umount'] = libc.umount2(b'/etc/ld.so.cache', 2)\n"
        "told['remount'] = libc.mount(b'none', b'/etc/ld.so.cache', None, 32 | 4096, None)\n"
        "told['written'] = os.access(os.__file__, os.W_OK)\n"
        "told['net'] = open('/proc/net/dev').read().count(':') if os.path.exists('/proc/net/dev') else 1\n"
        "print(json.dumps(told))\n"
    )
    os.environ["GOLFLAB_TEST"] = "weights"
    try:
        ran = run("namespaces", file, PATH, "", view([file]))
    finally:
        del os.environ["GOLFLAB_TEST"]
    told = json.loads(ran.output)
    assert (told["pid"], told["umount"], told["remount"], told["written"], told["net"]) == (1, -1, -1, False, 1)
    assert told["user"] != 0
    assert "GOLFLAB_TEST" not in told["names"]
    assert "home" not in told["root"] or str(tmp_path).startswith("/home")


# ---------------------------------------------------------------------- what is shown


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A folder with a known library of three files, one of them changed, and what somebody left in it."""
    place = tmp_path / "site"
    for name, text in {
        "einops/__init__.py": "x = 1",
        "einops/table.bin": "12345",
        "einops/changed.py": "y = 2",
        "einops-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: einops\nVersion: 1\n",
        "einops/left.npy": "weights",
        "einops/deep/left.py": "weights = 1",
        "einops/__pycache__/__init__.cpython-311.pyc": "weights",
        "stranger/__init__.py": "weights = 2",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    sizes = {"einops/__init__.py": 5, "einops/table.bin": 5, "einops/changed.py": 4, "einops-1.dist-info/METADATA": 47}
    sizes["einops-1.dist-info/METADATA"] = (place / "einops-1.dist-info/METADATA").stat().st_size
    rows = [
        *[(name, "sha256=x", size) for name, size in sizes.items()],
        ("einops/__pycache__/__init__.cpython-311.pyc", "", ""),
    ]
    with io.StringIO() as file:
        csv.writer(file).writerows(rows)
        (place / "einops-1.dist-info/RECORD").write_text(file.getvalue())
    monkeypatch.setattr(isolation_view, "LIBRARIES", ("einops",))
    monkeypatch.setattr(isolation_view, "_places", lambda: [str(place)])
    return place


def test_of_a_library_only_the_listed_files_are_shown(library):
    seen = view([])
    shown = {str(p.relative_to(library)) for p in library.rglob("*") if p.is_file() and seen.allows(str(p))}
    assert shown == {"einops/__init__.py", "einops/table.bin", "einops-1.dist-info/METADATA"}


def test_what_is_declared_is_shown_wherever_it_is(library):
    seen = view([library / "einops/left.npy", library / "stranger"])
    assert seen.allows(str(library / "einops/left.npy"))
    assert seen.allows(str(library / "stranger/__init__.py"))
    assert not seen.allows(str(library / "einops/changed.py"))


@namespaces
def test_in_namespaces_the_rest_of_a_library_is_not_there(library, script):
    file = script(
        "import json, os, sys\n"
        "def got(path):\n"
        "    try: return bool(open(path).read())\n"
        "    except OSError: return False\n"
        "print(json.dumps([path for path in json.load(sys.stdin) if got(path)]))\n"
    )
    asked = [str(path) for path in library.rglob("*") if path.is_file()]
    seen = view([file, library / "einops/left.npy"])
    ran = run("namespaces", file, PATH, json.dumps(asked), seen)
    got = json.loads(ran.output)
    assert got == [path for path in asked if seen.allows(path)]
    assert str(library / "einops/left.npy") in got


def test_of_a_declared_folder_only_what_is_counted_is_shown(tmp_path):
    for name in ("code/a.py", "code/weights.bin", "code/__pycache__/a.cpython-311.pyc", "data/x.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    seen = view([tmp_path / "code"], [tmp_path / "data"])
    assert [seen.allows(str(tmp_path / name)) for name in ("code/a.py", "data/x.bin")] == [True, True]
    assert not seen.allows(str(tmp_path / "code/weights.bin"))
    assert not seen.allows(str(tmp_path / "code/__pycache__/a.cpython-311.pyc"))


def test_devices_of_a_graphics_card_are_shown(tmp_path):
    for name in ("null", "nvidia0", "nvidiactl", "nvidia-uvm", "sda"):
        (tmp_path / name).touch()
    seen = view([], devices=str(tmp_path))
    assert {name for name in os.listdir(tmp_path) if seen.allows(str(tmp_path / name))} == {
        "null",
        "nvidia0",
        "nvidiactl",
        "nvidia-uvm",
    }


def test_the_standard_library_is_shown_by_its_names():
    home, seen = PATH[0], view([])
    assert seen.allows(os.path.realpath(f"{home}/json/decoder.py"))
    for other in ("weights.py", "site-packages/weights.py", "test/test_os.py", "LICENSE.txt", "json/__pycache__"):
        assert not seen.allows(os.path.realpath(f"{home}/{other}")), other
