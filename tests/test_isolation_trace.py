"""What a trace of system calls says was opened, tried and sent."""

import io

from golflab.model.isolation.tracing import undeclared
from golflab.model.isolation.view import View

TRACE = """\
10 openat(AT_FDCWD</w>, "x", O_RDONLY|O_CLOEXEC) = 3</w/x>
10 openat(AT_FDCWD</w>, "none", O_RDONLY) = -1 ENOENT (No such file or directory)
10 openat(AT_FDCWD</w>, "y", O_RDONLY <unfinished ...>
11 connect(4<socket:[1]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.2.3.4")}, 16 <unfinished ...>
10 <... openat resumed>) = 5</w/y \\303\\244\\76>(deleted)
11 <... connect resumed>) = -1 EINPROGRESS (Operation now in progress)
11 openat(AT_FDCWD</w>, "/w/made", O_RDWR|O_CREAT|O_EXCL, 0600) = 6</w/made>
11 openat(AT_FDCWD</w>, "/w/made", O_RDONLY) = 6</w/made>
11 openat(AT_FDCWD</w>, "/w/log", O_WRONLY|O_CREAT, 0600) = 6</w/log>
11 openat(AT_FDCWD</w>, "maps", O_RDONLY) = 6</proc/10/maps>
11 openat(AT_FDCWD</w>, "environ", O_RDONLY) = 6</proc/9/environ>
11 execve("/w/program \\"a\\"", ["program"], 0x7 /* 1 var */) = 0
11 sendto(3<socket:[2]>, "\\24", 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20
11 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 12
11 clone(child_stack=NULL, flags=CLONE_UNTRACED|SIGCHLD) = 12
12 process_vm_readv(9, [], 1, [], 1, 0) = 8
12 openat(AT_FDCWD</w>, "/shown/a", O_RDONLY) = 3</shown/a>
12 openat(AT_FDCWD</w>, "/own/a", O_RDONLY) = 3</own/a>
12 +++ exited with 0 +++
"""


def test_a_trace_is_read():
    assert undeclared(io.StringIO(TRACE), View(("/shown",)), "/own") == [
        "/w/x",
        "/w/y ä>",
        'the network (sin_port=htons(53), sin_addr=inet_addr("1.2.3.4"))',
        "/proc/9/environ",
        '/w/program "a"',
        "a child that cannot be traced",
        "memory or files of other processes (process_vm_readv)",
    ]


def test_what_was_tried_in_vain_counts_if_it_exists_outside(tmp_path):
    (tmp_path / "x").touch()
    lines = [
        f'10 openat(AT_FDCWD</tmp>, "{tmp_path}/x", O_RDONLY) = -1 ENOENT (No such file or directory)',
        f'10 openat(3<{tmp_path}>, "x", O_RDONLY) = -1 EACCES (Permission denied)',
        f'10 openat(AT_FDCWD</tmp>, "{tmp_path}/y", O_RDONLY) = -1 ENOENT (No such file or directory)',
        f'10 openat(AT_FDCWD</tmp>, "{tmp_path}", O_RDONLY) = -1 ENOENT (No such file or directory)',
        '10 openat(AT_FDCWD</tmp>, "/etc/localtime", O_RDONLY) = -1 ENOENT (No such file or directory)',
    ]
    assert undeclared(lines, View(()), "/own", inside=True) == [str(tmp_path / "x")]
