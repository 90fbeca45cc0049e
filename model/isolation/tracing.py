"""Reads a trace that strace wrote: which files a program opened, and what it sent, beyond what it was allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from golflab.model.isolation.view import View

PLUG_INS = 8192  # bytes a library's list of plug-ins may have: looking for some reads those of all libraries
# Paths that programs open by themselves: names, time zones, languages, facts about the machine.
SYSTEM = re.compile(
    r"/sys/|/proc/(self/|thread-self/|sys/|driver/|(cpuinfo|meminfo|stat|filesystems|mounts|version)$)"
    r"|/dev/(null|zero|full|u?random|tty|nvidia.*)$"
    r"|/etc/(ld\.so\.(cache|preload)|localtime|timezone|os-release|passwd|group|hosts|host\.conf|resolv\.conf|nsswitch\.conf"
    r"|gai\.conf|mime\.types|machine-id|locale\.alias)$|/usr/lib/os-release$|/usr/share/zoneinfo/|/usr/(lib|share)/locale/"
    r"|/etc/(ssl|pki/tls)/openssl\.cnf$|/usr/lib(/[\w-]+)?/(gconv/|libnss_\w+\.so\.2$)|(/usr)?/s?bin/(uname|ldconfig|ldconfig\.real)$"
)
# Calls that reach memory or files of other processes without opening a path.
FORBIDDEN = ("open_by_handle_at", "process_vm_readv", "pidfd_getfd", "ptrace", "io_uring_setup", "shmat", "mq_open", "keyctl")
OPENING = ("open", "openat", "openat2", "creat", "execve", "execveat", "clone", "clone3")
SENDING = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")


def of_system(path: str) -> bool:
    """Whether a path is one that Python and libraries open by themselves."""
    plug_ins = re.search(r"\.(dist|egg)-info/(entry_points|top_level|requires)\.txt$|\.egg-info/PKG-INFO$", path)
    return bool(SYSTEM.match(path)) or (plug_ins is not None and os.path.isfile(path) and os.path.getsize(path) <= PLUG_INS)


def undeclared(trace: Iterable[str], view: View, own: str, inside: bool = False) -> list[str]:
    """Undeclared files that a program opened, according to a trace; connections; reads of other processes' memory.

    Args:
        trace: lines that ``strace -f -y -o`` wrote.
        view: what the program was allowed.
        own: a folder that is the program's own.
        inside: whether it ran in namespaces; then failed attempts count if the file exists outside.
    """
    begun: dict[str, str] = {}
    found: dict[str, None] = {}
    made: set[str] = set()
    pids: set[str] = set()
    for line in trace:
        pid, _, call = line.rstrip("\n").partition(" ")
        call = call.strip()
        pids.add(pid)
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(pid, "") + call[resumed.end() :]
        what = _sent(call) or (_tried(call) if inside else _opened(call, pids, made))
        if what and not (view.allows(what) or of_system(what) or what == own or what.startswith(own + "/")):
            found[what] = None
    return list(found)


def _sent(call: str) -> str:
    """Where a traced call sent something, or tried to; nothing for other calls."""
    if call.partition("(")[0] not in SENDING:
        return ""
    if address := re.search(r"sa_family=AF_INET6?, (.*?)\}", call):
        return f"the network ({address[1]})"
    socket = re.search(r'sa_family=AF_UNIX, sun_path=@?"(.*?)"', call)
    return f"the socket {socket[1]}" if socket and "nscd" not in socket[1] and " = -1 " not in call else ""


TRIED = re.compile(r'open(?:at2?)?\((?:\w+(?:<(.*?)>)?, )?"((?:[^"\\]|\\.)*)".* = -1 (?:ENOENT|EACCES|ENOTDIR)')


def _tried(call: str) -> str:
    """The path of a file outside that a traced call did not get."""
    if not (found := TRIED.match(call)):
        return ""
    path = os.path.join(_plain(found[1] or "/"), _plain(found[2]))
    compiled = path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__"  # it reads the source then
    if path.startswith("/proc/") or compiled or not os.path.isfile(path) or of_system(path):
        return ""
    return os.path.realpath(path)


def _opened(call: str, pids: set[str], made: set[str]) -> str:
    """What one traced call opened: a path, or words; nothing where it failed or is harmless."""
    name = call.partition("(")[0]
    if name in ("clone", "clone3"):
        return "a child that cannot be traced" if "CLONE_UNTRACED" in call else ""
    if name in FORBIDDEN:
        return "" if " = -1 " in call else f"memory or files of other processes ({name})"
    if name in ("execve", "execveat"):
        program = re.search(r'"((?:[^"\\]|\\.)*)"', call)
        return os.path.realpath(_plain(program[1])) if program and call.endswith(" = 0") else ""
    if not (result := re.search(r" = \d+<(/.*)>(\(deleted\))?$", call)):
        return ""
    path = _plain(result[1])
    if "O_CREAT" in call and "O_EXCL" in call:
        made.add(path)
    if "O_DIRECTORY" in call or os.path.isdir(path):
        return ""
    path = re.sub(r"^/proc/(\d+)/", lambda own: "/proc/self/" if own[1] in pids else own[0], path)
    return "" if path in made or "O_WRONLY" in call or "O_PATH" in call else path


def _plain(text: str) -> str:
    """A path as strace wrote it, with its escapes undone."""
    raw = re.sub(rb"\\([0-7]{1,3})", lambda octal: bytes([int(octal[1], 8)]), text.encode("utf-8", "surrogateescape"))
    return os.fsdecode(raw.replace(b'\\"', b'"').replace(b"\\\\", b"\\"))
