"""Official shards from a hub: here a small one on the loopback interface."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from golflab.model.data.shards import read_shard, write_shard
from golflab.search.cli.data import get

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve a data set of two training shards and one for validation; yield its address and what was asked for."""
    files, asked = {}, []
    for name, tokens in {"train_000000": [1, 5, 6], "train_000001": [1, 7], "val_000000": [1, 8, 1, 9]}.items():
        write_shard(tmp_path / "shard", [tokens])
        files[f"somewhere/datasets/fineweb10B_sp1024/fineweb_{name}.bin"] = (tmp_path / "shard").read_bytes()
    files["somewhere/tokenizers/fineweb_1024_bpe.model"] = b"a tokenizer"
    files["somewhere/datasets/fineweb10B_sp512/fineweb_train_000000.bin"] = b"another vocabulary"

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = self.path.partition("?")[0]
            asked.append((self.command, path))
            if path.startswith("/api/datasets/some/data"):
                if path.endswith("/tree/main"):
                    told = [{"type": "file", "path": p, "size": len(b), "oid": "0" * 40} for p, b in files.items()]
                else:
                    told = {"id": "some/data", "sha": "0" * 40, "siblings": [{"rfilename": p} for p in files]}
                return self.send(json.dumps(told).encode(), "application/json", body)
            name = path.partition("/resolve/")[2].partition("/")[2]
            if name not in files:
                return self.send_error(404)
            return self.send(files[name], "application/octet-stream", body)

        def send(self, content, kind, body):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked, files
    server.shutdown()


def test_shards_and_tokenizer_are_found_by_name_checked_and_kept(hub, tmp_path):
    address, asked, _ = hub
    folder = tmp_path / "shards"
    paths = get(folder, 1024, 1, "some/data", address)
    assert [p.name for p in paths] == ["fineweb_1024_bpe.model", "fineweb_train_000000.bin", "fineweb_val_000000.bin"]
    assert read_shard(paths[1]).tolist() == [1, 5, 6]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)
    asked.clear()
    more = get(folder, 1024, 2, "some/data", address)
    assert [p.name for p in more][2] == "fineweb_train_000001.bin"
    assert {path.rpartition("/")[2] for _, path in asked if "/resolve/" in path} == {"fineweb_train_000001.bin"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocabulary": 4096}, "no shards and tokenizer of 4096 ids"),
        ({"shards": 3}, "2 training shards of 1024 ids, not 3"),
        ({"shards": 0}, "at least 1"),
        ({"hub": "some/other"}, "could not be read"),
    ],
)
def test_what_is_not_there_is_said(hub, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        get(tmp_path / "shards", **{"hub": "some/data", "endpoint": hub[0]} | options)


def test_a_damaged_shard_is_refused(hub, tmp_path):
    address, _, files = hub
    name = "somewhere/datasets/fineweb10B_sp1024/fineweb_train_000000.bin"
    files[name] = files[name][:-2]
    with pytest.raises(ValueError, match="promises"):
        get(tmp_path / "shards", 1024, 1, "some/data", address)
    assert not (tmp_path / "shards" / "fineweb_train_000000.bin").exists()


CASEOPS = "datasets/fineweb10B_sp8192_lossless_caps_caseops_v1_reserved/fineweb_"


@pytest.fixture
def rewritten(hub, tmp_path):
    """The hub with shards of rewritten text beside the plain ones."""
    _, _, files = hub
    for name, tokens in {"train_000000": [1, 5], "val_000000": [1, 8], "val_bytes_000000": [0, 3]}.items():
        write_shard(tmp_path / "shard", [tokens])
        files[f"{CASEOPS}{name}.bin"] = (tmp_path / "shard").read_bytes()
    files["datasets/fineweb10B_sp8192/fineweb_train_000000.bin"] = b"plain text"
    files["tokenizers/fineweb_8192_bpe.model"] = b"a plain tokenizer"
    files["tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model"] = b"a tokenizer with markers"
    return hub


def test_rewritten_shards_come_with_their_sidecars_and_their_own_tokenizer(rewritten, tmp_path):
    paths = get(tmp_path / "shards", 8192, 1, "some/data", rewritten[0], caseops=True)
    assert [p.name for p in paths[1:]] == [f"fineweb_{n}.bin" for n in ("train_000000", "val_000000", "val_bytes_000000")]
    assert paths[0].read_bytes() == b"a tokenizer with markers"
    assert read_shard(paths[3]).tolist() == [0, 3]


def test_rewritten_shards_without_sidecars_or_of_another_size_are_refused(rewritten, tmp_path):
    with pytest.raises(ValueError, match="of 4096 ids; try --vocabulary 8192"):
        get(tmp_path / "shards", 4096, 1, "some/data", rewritten[0], caseops=True)
    del rewritten[2][f"{CASEOPS}val_bytes_000000.bin"]
    with pytest.raises(ValueError, match="no byte sidecars of 8192 ids"):
        get(tmp_path / "shards", 8192, 1, "some/data", rewritten[0], caseops=True)
