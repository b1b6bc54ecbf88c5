"""The private world of one process: user, mount, network and PID namespaces that die with it.

Nothing here has a name in a shared place. Namespaces are file descriptors, /run is a tmpfs that only this process
and its children see, and every program that a lab starts lives in a PID namespace whose init reads from a pipe:
when the process that holds the pipe ends, however it ends, init reads end-of-file, exits, and the kernel kills
all that is left (pid_namespaces(7)).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Forbidden

# include/uapi/linux/sched.h, include/uapi/linux/mount.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_SLAVE = 0x2, 0x4, 0x4000, 0x80000
FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 0x1, 6, 0x1
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x2, 0x4, 0x8
# include/uapi/asm-generic/unistd.h, since Linux 5.2; the C library has no names for them before its version 2.36
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
# include/uapi/linux/sockios.h, and struct ifreq with its flags (include/uapi/linux/if.h)
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
INTERFACE_FLAGS = struct.Struct("16sh22x")

# How long it takes to hear of the end of a process that has ended, in seconds.
MOMENT = 1.0

# Sysctls that keep ordinary users from user namespaces, and the value that does: Debian's, Ubuntu's, the kernel's own.
CLOSED_BY = {
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
    "user.max_user_namespaces": "0",
}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class World:
    """What isolate() made: the process that owns it, and its namespaces.

    `machine` is the network namespace that the process started in, `network` the one that it lives in, `programs`
    the PID namespace of what it starts.
    """

    pid: int
    machine: int
    network: int
    programs: int
    init: subprocess.Popen[bytes]
    machine_sysctls: frozenset[str]


# Set for the processes that we start: a worker finds itself root of a user namespace that its controller made.
USER_NAMESPACE_MARK = "TCP_HARNESS_USER_NAMESPACE"
# Set instead when that was refused: a worker, which has threads, would be refused for another reason.
REFUSED_MARK = "TCP_HARNESS_USER_NAMESPACE_REFUSED"

# One a process; a list because a fork leaves its parent's behind.
_made: list[World] = []
_lock = threading.Lock()


def _checked(call: str, *arguments: object) -> None:
    if getattr(_libc, call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace that `fd` holds; OSError if the kernel refuses."""
    _checked("setns", fd, kind)


def new_network() -> int:
    """A file descriptor of a network namespace made just now; the calling thread stays where it is."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _unshare(CLONE_NEWNET)
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            setns(here)
    finally:
        os.close(here)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); OSError if the kernel refuses."""
    _checked("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def new_procfs() -> int:
    """Another instance of procfs, by detached(). Its /proc/sys is that of whoever looks, as in any other."""
    return detached("proc")


def detached(kind: str) -> int:
    """A file descriptor of the root of a file system that is mounted nowhere, and ends with the descriptor.

    OSError where the kernel refuses it.
    """
    made = _called(SYS_FSOPEN, kind.encode(), FSOPEN_CLOEXEC)
    try:
        _called(SYS_FSCONFIG, made, FSCONFIG_CMD_CREATE, None, None, 0)
        return _called(SYS_FSMOUNT, made, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    finally:
        os.close(made)


def _called(number: int, *arguments: object) -> int:
    """A system call by its number: what it returns."""
    returned = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if returned < 0:
        refused = ctypes.get_errno()
        raise OSError(refused, f"system call {number}: {os.strerror(refused)}")
    return returned


def _unshare(flags: int) -> None:
    try:
        _checked("unshare", flags)
    except OSError as error:
        raise Forbidden(_why_refused(flags, error)) from None


def _why_refused(flags: int, error: OSError) -> str:
    if not flags & CLONE_NEWUSER:
        return (
            f"the kernel refuses a new namespace ({error.strerror}); run as root, or in a virtual machine "
            "(containers need CAP_SYS_ADMIN)"
        )
    if REFUSED_MARK in os.environ:
        return os.environ[REFUSED_MARK]
    for setting, closed in CLOSED_BY.items():
        path = Path("/proc/sys", *setting.split("."))
        if path.exists() and (value := path.read_text().strip()) == closed:
            return (
                f"user namespaces are closed to ordinary users here ({error.strerror}): {setting} is {value}; change "
                "that, or run as root, or in a virtual machine"
            )
    if error.errno == errno.EINVAL:
        threads = len(list(Path("/proc/self/task").iterdir()))
        return (
            f"an ordinary user's labs need a user namespace, which a process with {threads} threads cannot enter; "
            'set `tcp_lab_isolation = "startup"` in the configuration of pytest, and OPENBLAS_NUM_THREADS=1 where a '
            "plugin imports numpy, or run as root"
        )
    return (
        f"an ordinary user's labs need a user namespace, which the kernel refuses ({error.strerror}), as it does in a "
        "chroot and in most containers; run as root, or in a virtual machine"
    )


def isolate(*, user_only: bool = False) -> None:
    """Put this process into namespaces of its own, once; later calls return at once.

    As root: mount and network. As an ordinary user a user namespace comes first, in which the user is root; that
    needs a process of one thread. `user_only` stops there: a process that starts others (pytest's controller) calls
    it so that they inherit the right to make the rest. Raises Forbidden, naming the setting, where the machine
    forbids it.
    """
    with _lock:
        if _made and _made[-1].pid == os.getpid():
            return
        if os.geteuid() != 0:
            try:
                _become_root_of_a_user_namespace()
            except Forbidden as error:
                if user_only:
                    os.environ[REFUSED_MARK] = str(error)
                raise
        if user_only:
            return
        _raise_descriptor_limit()
        machine_sysctls = frozenset(_sysctls_of_the_machine())
        machine = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _unshare(CLONE_NEWNS | CLONE_NEWNET)
        _loopback_up()
        # Slave, not private: what the machine unmounts must not stay busy because of us.
        try:
            mount("none", "/", "none", MS_REC | MS_SLAVE)
        except OSError as error:
            # In a chroot whose root is no mount point a mount on /run could spread to the machine.
            raise Forbidden(
                f"the root directory is not a mount point ({error.strerror}), as in a chroot; labs need a mount "
                "namespace of their own: bind-mount the root directory on itself, or run outside"
            ) from None
        mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        Path("/run/netns").mkdir()
        init, programs = _start_init()
        _made.append(
            World(
                pid=os.getpid(),
                machine=machine,
                network=os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC),
                programs=programs,
                init=init,
                machine_sysctls=machine_sysctls,
            )
        )


def world() -> World:
    """The namespaces of this process; isolates it first if that was not done."""
    isolate()
    return _made[-1]


def has_lost_its_programs() -> bool:
    """Whether the first process of the programs' PID namespace has ended, and all of them with it.

    The kernel starts nothing there any more: fork(2) fails with ENOMEM (pid_namespaces(7)), as it does where there is
    no memory. unshare(1), which is our child, ends a moment after its own.
    """
    try:
        world().init.wait(MOMENT)
    except subprocess.TimeoutExpired:
        return False
    return True


def _become_root_of_a_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    name = os.environ.get("USER") or _name_of(user)
    _unshare(CLONE_NEWUSER)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:  # AppArmor lets the namespace be made and takes all rights away in it
        raise Forbidden(_why_refused(CLONE_NEWUSER, error)) from None
    # Libraries that ask who we are (getpass, pytest's tmp_path) keep to the user's own name, not to root's folders.
    os.environ.setdefault("USER", name)
    os.environ[USER_NAMESPACE_MARK] = "1"


def in_user_namespace() -> bool:
    """Whether isolate(), here or in the process that started us, made a user namespace."""
    return USER_NAMESPACE_MARK in os.environ


def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _loopback_up() -> None:
    """What a test starts outside its labs (a plugin's server, a pytest of its own) finds 127.0.0.1 and ::1 as usual."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, INTERFACE_FLAGS.pack(b"lo", IFF_UP))


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _sysctls_of_the_machine() -> list[str]:
    """The network sysctls of the namespace we start in, without those kept per interface or neighbour table."""
    base = Path("/proc/sys/net")
    folders = (base, *(path for path in base.iterdir() if path.is_dir()))
    return [
        ".".join(("net", *path.relative_to(base).parts))
        for folder in folders
        for path in folder.iterdir()
        if path.is_file()
    ]


def _start_init() -> tuple[subprocess.Popen[bytes], int]:
    """Start the PID namespace in which the programs of labs live: its init, and a file descriptor of it."""
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"init\n")
    process.stdin.flush()
    # The echo says that `cat` runs as PID 1; before that, our first program would become init.
    if process.stdout.readline() != b"init\n":
        raise Forbidden(f"no PID namespace for the programs of labs: {process.stderr.read().decode().strip()}")
    atexit.register(_end_init, process, os.getpid())
    return process, os.open(_namespace_of_children(process.pid), os.O_RDONLY | os.O_CLOEXEC)


def _end_init(process: subprocess.Popen[bytes], owner: int) -> None:
    """End it with its owner, as the kernel would: Python warns of processes that run still, and of open pipes."""
    if os.getpid() != owner:  # a fork
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _namespace_of_children(pid: int) -> str:
    """The PID namespace that a process's children are born in."""
    path = f"/proc/{pid}/ns/pid_for_children"
    # There since 4.12 (namespaces(7)); before, it is where its child is.
    return path if Path(path).exists() else f"/proc/{children_of(pid)[0]}/ns/pid"


def children_of(pid: int) -> list[int]:
    """The process ids of a process's children, as this process sees them."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if path.exists():
        return [int(word) for word in path.read_text().split()]
    return [int(child.name) for child in Path("/proc").glob("[0-9]*") if _parent_of(child) == pid]


def _parent_of(process: Path) -> int | None:
    """For kernels without CONFIG_PROC_CHILDREN: the parent's id from /proc/PID/stat, after the name in brackets."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
