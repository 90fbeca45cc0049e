"""A shared folder is data: what its file names is shown and refused; and no password is kept or printed."""

import json
import shutil

import pytest
from made import made
from test_cli import golflab

from golflab.search.experiment.consent import _given, check_consent, consent, foreign, key_file
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.folder import kept
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import options_of, resume
from golflab.search.ledger.database import bare, check_address, cleaned, completed, masked
from golflab.search.ledger.storage import open_storage
from golflab.search.upkeep.status import status_of

SECRETS = [
    ("postgresql://me:s3cret@db/golf", "postgresql://me:***@db/golf", "postgresql://me@db/golf"),
    ("postgresql+psycopg://me:s%40cret@db:5432/golf?x=1", "postgresql+psycopg://me:***@db:5432/golf?x=1", None),
    ("postgresql://db/golf?user=me&password=s3cret", "postgresql://db/golf?user=me&password=***", None),
    ("mysql://me:a/b?c@db/x?ssl_token=t0psecret&a=b", "mysql://me:***@db/x?ssl_token=***&a=b", None),
    ("postgresql://:s3cret@/golf?host=/run/pg", "postgresql://:***@/golf?host=/run/pg", None),
    ("sqlite:////data/a:b/c@d.db", "sqlite:////data/a:b/c@d.db", "sqlite:////data/a:b/c@d.db"),
]


@pytest.mark.parametrize(("url", "shown", "without"), SECRETS)
def test_passwords_are_masked_wherever_an_address_has_one(url, shown, without, monkeypatch):
    assert masked(url) == masked(shown) == shown
    assert without is None or bare(url) == without
    assert bare(url) == bare(shown)
    assert kept(Options(storage=url))["storage"] == shown
    assert url == shown or url not in repr(Options(storage=url))
    assert completed(url) == url
    monkeypatch.setenv("GOLFLAB_STORAGE", url)
    assert completed(shown) == url
    assert completed(bare(url)) == url
    monkeypatch.setenv("GOLFLAB_STORAGE", url.replace("golf", "other").replace("db/x", "other/x"))
    if url != shown:
        assert completed(shown) == bare(url)


def test_an_error_is_shown_without_the_password():
    url = "postgresql://me:s%40cret@db/golf"
    assert cleaned(OSError(f"no such {url}: s@cret and s%40cret"), url) == "no such postgresql://me:***@db/golf: *** and ***"
    assert cleaned(OSError("is a bad idea"), "postgresql://me:a@db/golf") == "OSError"
    with pytest.raises(ValueError, match="%40") as error:
        check_address("postgresql://me:s@cret@db/golf")
    assert "cret" not in str(error.value)


def test_a_database_that_cannot_be_reached_is_named_without_its_password(monkeypatch, capsys, tmp_path):
    url = "postgresql://me:s3cret@127.0.0.1:1/golf"
    words = ("search", "--name", "x", "--runs", tmp_path, "--storage", url, "--tokens", 4096, "--scale", "nano")
    monkeypatch.setattr("golflab.search.experiment.start.data_of", lambda *_: {})
    monkeypatch.setattr("golflab.search.experiment.folder.identity_of", lambda *_: {"data": {}})
    assert golflab(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert "postgresql://me:***@127.0.0.1:1/golf" in said.err
    assert "s3cret" not in said.err + said.out
    assert not (tmp_path / "x").exists()


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """An experiment of somebody else's, whose file names a storage and modules."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
    folder = made(tmp_path, "s", trials=1, storage=f"sqlite:///{tmp_path / 'theirs.db'}")
    assert key_file().stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    _given.clear()
    return folder


def test_what_a_shared_folder_names_is_shown_and_waits_for_consent(shared, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("golflab.search.ledger.storage.optuna.storages.get_storage", lambda url: pytest.fail("it was opened"))
    for words in (["status"], ["resume"], ["dashboard"]):
        assert golflab(monkeypatch, *words, "s", "--runs", tmp_path) == 2
        said = capsys.readouterr().err
        assert f"connect to 'sqlite:///{tmp_path / 'theirs.db'}' (storage)" in said
        assert "--trust" in said
    with pytest.raises(ValueError, match=r"import 'fake_runs:run' \(runner\)"):
        options_of(shared)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    for words in (["--trust"], ["--storage", url]):
        assert golflab(monkeypatch, "status", shared, *words, "--json") == 0
    with pytest.raises(ValueError, match="consent"):
        status_of(shared)  # to look is not to take over
    with pytest.raises(ValueError, match="consent"):
        options_of(shared, storage=url)  # the modules were not typed
    names = {"runner": "fake_runs:run", "forecaster": "fake_runs:Forecaster"}
    assert options_of(shared, storage=url, **names).runner == "fake_runs:run"
    assert golflab(monkeypatch, "resume", shared, "--trust", "--json") == 0
    _given.clear()  # as in another process
    assert status_of(shared)["counts"]["complete"] == 1
    assert resume(shared).finished
    moved = shutil.copytree(shared, tmp_path / "copy")
    _given.clear()
    assert options_of(moved).runner == "fake_runs:run"  # the consent travels with what was consented to
    told = json.loads((moved / "experiment.json").read_text())
    told["options"]["runner"] = "fake_runs:slow"
    (moved / "experiment.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="fake_runs:slow"):
        options_of(moved)


def test_consent_covers_all_that_leads_out_of_the_folder(tmp_path):
    own = kept(Options())
    assert foreign(own) == {}
    check_consent(tmp_path, {"options": own}, ("space", "runner"))
    for key, value in {"space": "os:system", "address": "evil:6379", "cache": "/etc", "local_disk": "/etc"}.items():
        with pytest.raises(ValueError, match=value):
            check_consent(tmp_path, {"options": own | {key: value}}, (key,))
    assert consent(own) == {}


def test_without_a_place_for_a_key_the_user_is_asked_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/none")
    folder = made(tmp_path, "n", trials=1)
    assert read_experiment(folder)["consents"] == {}
    assert options_of(folder).trials == 1  # in this process it was typed
    _given.clear()
    with pytest.raises(ValueError, match="consent"):
        options_of(folder)
    assert options_of(folder, trust=True).trials == 1
    assert open_storage(None, folder, reading=True)
