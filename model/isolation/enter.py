"""Starts a program in new Linux namespaces: only the paths of a plan exist, and no network, other process or privilege.

Run as a script by a Python without libraries: ``python -I -S isolation_enter.py plan.json``. It needs no root: a user
namespace gives it the right to mount, and the program loses that right when it starts. If the system refuses something, the
exit status is 97 and the program did not start.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import sys

REFUSED = 97
NAMESPACES = 0x10000000 | 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000  # user, mount, net, pid, ipc, uts
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
NO_SETUID = 2
DETACH = 2
KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}  # flags of statvfs a user namespace may not take from a mount
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # system call numbers; the C library has no function for these
JOIN_KEYRING = {"x86_64": (250, 1), "aarch64": (219, 1)}
USER = 1000  # inside; not 0, which would keep its rights

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError where a system call failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """The system call of this name."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    check(libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode()), f"mount {source} on {target}")


def become_owner() -> None:
    """Enter the namespaces, with the right to mount in them."""
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(NAMESPACES), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{USER} {user} 1"), ("gid_map", f"{USER} {group} 1")):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def place(root: str, path: str) -> str:
    """Make the folders above a path in the new root, with the symbolic links that lead there outside; where it really is."""
    todo, at = [part for part in path.split("/") if part][::-1], ""
    while todo:
        part = todo.pop()
        if part == "..":
            at = os.path.dirname(at)
            continue
        here = f"{at}/{part}"
        if os.path.islink(here):
            target = os.readlink(here)
            with contextlib.suppress(FileExistsError, OSError):
                os.symlink(target, root + here)
            at = "" if target.startswith("/") else at
            todo += [piece for piece in target.split("/") if piece not in ("", ".")][::-1]
            continue
        at = here
        if todo and not os.path.isdir(root + at):
            os.mkdir(root + at)
    return at


def show(root: str, path: str) -> None:
    """Bind a file or folder read-only to its place in the new root."""
    real = place(root, path)
    if os.path.isdir(real):
        os.makedirs(root + real, exist_ok=True)
    elif not os.path.exists(root + real):
        with open(root + real, "w"):
            pass
    bind(real, root + real)


def bind(source: str, target: str) -> None:
    """Bind what is at one path to another one, read-only."""
    mount(source, target, None, BIND | RECURSIVE)
    flags = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in KEPT.items() if flags & bit)
    device = not (os.path.isdir(target) or os.path.isfile(target))
    mount("none", target, None, BIND | REMOUNT | kept | (0 if device else READ_ONLY))


def build(plan: dict) -> None:
    """Make the new root and go there."""
    root = plan["root"]
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", NO_SETUID, f"size={plan['size']},mode=755")
    for folder in ("tmp", "dev", "dev/shm", "proc", "etc", ".covers"):
        os.mkdir(f"{root}/{folder}")
    for folder in ("tmp", "dev/shm"):
        os.chmod(f"{root}/{folder}", 0o1777)
    os.mkdir(f"{root}/.covers/folder", 0o500)
    os.close(os.open(f"{root}/.covers/file", os.O_CREAT, 0))
    for path in sorted(plan["shown"]):
        show(root, path)
    for path in plan["hidden"]:
        real = os.path.realpath(path)
        if os.path.exists(root + real):
            bind(f"{root}/.covers/{'folder' if os.path.isdir(real) else 'file'}", root + real)
    with open(f"{root}/etc/passwd", "w") as file:
        file.write(f"audit:x:{USER}:{USER}::/tmp:/bin/false\n")
    processes(root)
    libc.sethostname(b"audit", 5)
    machine = platform.machine()
    if machine not in PIVOT_ROOT:
        raise OSError(f"no system call numbers for {machine}")
    libc.syscall(*JOIN_KEYRING[machine], None)  # a new one: keys of the caller are not there
    os.chdir(root)
    check(libc.syscall(PIVOT_ROOT[machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", DETACH), "umount")
    os.chdir("/tmp")


def processes(root: str) -> None:
    """Show /proc of the new process namespace; where a container forbids that, what libraries ask of it."""
    try:
        mount("proc", f"{root}/proc", "proc", NO_SETUID)
    except OSError:
        for name in ("cpuinfo", "meminfo", "stat"):
            with contextlib.suppress(OSError), open(f"/proc/{name}") as source, open(f"{root}/proc/{name}", "w") as target:
                target.write(source.read())


def main() -> None:
    """Read the plan, enter, and start its program as the first process of the namespace; all others end with it."""
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    try:
        become_owner()
        child = os.fork()
        if child:
            for stream in (0, 1):
                os.close(stream)
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) % 256)
        libc.prctl(1, signal.SIGKILL)  # ends when this script is killed
        build(plan)
        libc.prctl(38, 1, 0, 0, 0)  # no new privileges
        os.closerange(3, 1 << 16)
        os.execve(plan["command"][0], plan["command"], plan["environment"])
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(REFUSED)


if __name__ == "__main__":
    main()
