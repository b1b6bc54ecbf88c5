"""The first process of a guest: sets the system up, then becomes the Python interpreter that the host talks to.

Runs by itself, without the rest of the package and without a shell. It is /init of the image. The host talks through a
virtio serial port: a line of JSON for each thing to do, followed by as many bytes as the line says; the guest answers
"ready" when it waits for the next. In that state the machine is saved, and restored for each run.

    {"do": "deliver", "bytes": N}     a tar archive to unpack at the root: the project, what it needs beside it
    {"do": "forget", "files": […]}    remove these files, and what was compiled of them
    {"do": "branch"}                  go on in a child; what it does is not done here
    {"do": "return"}                  end that child, and all that it started: as it was before, but for files
    {"do": "import", "modules": […]}  import these now, so that they need not be imported after each restore
    {"do": "check"}                   say what the kernel lacks that every lab needs
    {"do": "collect", "argv": […]}    let pytest collect, for the same reason; say which files were imported by now, but
                                      for those below the directories `but`
    {"do": "become", …}               become what execnet starts: an interpreter whose input and output are the port
    {"do": "run", "argv": […], …}     run a program whose input and output are the port, in frames
                                      (harness.kernels.terminal)
"""

# Every import costs the guest time; pathlib is not needed here.
# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH112, PTH114, PTH115, PTH118, PTH120, PTH123, PTH202, PTH208, PTH211

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import sys
import tarfile
import termios
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, NoReturn

# Not /tmp and /run: all is memory already, and the project or its environment may stand below /tmp.
MOUNTS = (
    ("proc", "/proc", "proc", ""),
    ("sysfs", "/sys", "sysfs", ""),
    ("dev", "/dev", "devtmpfs", "mode=755"),
    ("devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
    ("shm", "/dev/shm", "tmpfs", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
    ("tracefs", "/sys/kernel/tracing", "tracefs", ""),
    ("debugfs", "/sys/kernel/debug", "debugfs", ""),
    ("bpf", "/sys/fs/bpf", "bpf", ""),
)
MODULES = "/modules"
SYS_FINIT_MODULE = 313  # x86_64
PR_SET_CHILD_SUBREAPER = 36
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
# A seed in bytes: more than the pool behind getrandom(2) has, as the kernel credits three quarters of it at most, and
# keeps some for itself.
SEED, POOL = 256, 128
# How many seconds pass at least between two draws of that pool from what was added.
DRAW_EVERY = "/proc/sys/kernel/random/urandom_min_reseed_secs"
# On the console: the kernel cannot be used, and why.
CANNOT = "guest: this kernel has no"
# With this status a child ends that its parent is to go on from.
BACK = 77
# In the environment while that is collected which is saved then: harness.plugin.collected has the same.
TO_BE_SAVED = "TCP_HARNESS_TO_BE_SAVED"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

libc = ctypes.CDLL(None, use_errno=True)
# Source that the host sends each time, and its code; what is sent through execnet also by the name that it has there.
COMPILED: dict[str, CodeType] = {}
SENT: dict[tuple[str, str, str], CodeType] = {}


def mount_all() -> None:
    """What a Linux system has mounted; what this kernel does not have is left out."""
    for source, target, kind, options in MOUNTS:
        with contextlib.suppress(OSError):
            os.makedirs(target, exist_ok=True)
        libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(0), options.encode())
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(OSError):
            os.symlink(target, f"/dev/{name}")


def load_modules() -> None:
    """Load the image's modules in the order of their list; one that the kernel refuses is said on the console."""
    with open(f"{MODULES}/order") as order:
        names = order.read().split()
    for name in names:
        with open(f"{MODULES}/{name}", "rb") as file:
            if libc.syscall(SYS_FINIT_MODULE, file.fileno(), b"", 0) and ctypes.get_errno() != 17:  # EEXIST
                print(f"guest: {name}: {os.strerror(ctypes.get_errno())}", flush=True)
        os.unlink(f"{MODULES}/{name}")


def loopback_up() -> None:
    """ip link set lo up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", 0) + bytes(22)
        flags = struct.unpack_from("h", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP) + bytes(22))


def track_them_all() -> None:
    """Room for all connections of a scenario in the table of connection tracking, where nobody can be left out of it.

    Before 4.10 (0c66dc1ea3f0) every namespace is tracked as soon as the kernel has it, wanted or not, and the table has
    65,536 entries in a small machine: what is full is then not what a scenario asks about.
    """
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    with contextlib.suppress(OSError):
        if release is not None and (int(release[1]), int(release[2])) < (4, 10):
            with open("/proc/sys/net/netfilter/nf_conntrack_max", "w") as most:
                most.write("1048576")


def open_port() -> int:
    """The port to the host; without one there is nothing to be done here."""
    for _ in range(1000):
        for name in ("vport0p1", "vport1p1", "vport2p1"):
            with contextlib.suppress(OSError):
                return os.open(f"/dev/{name}", os.O_RDWR)
        time.sleep(0.01)
    print(f"{CANNOT} port to the outside (CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE)", flush=True)
    return power_off()


def lacking() -> list[str]:
    """What labs are made of and this kernel does not have, tried in a namespace of a child that then ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        lacks = []
        try:
            libc.unshare(ctypes.c_int(0x40000000))  # CLONE_NEWNET
            lacks += [] if has_veth() else ["veth (CONFIG_VETH)"]
            lacks += [] if has_nftables() else ["nftables (CONFIG_NF_TABLES)"]
            os.write(writing, json.dumps(lacks).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return list(json.loads(answer.read() or "[]"))


def has_veth() -> bool:
    """ip link add a type veth peer name b."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as routes:
        try:
            routes.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
        except NetlinkError:
            return False
    return True


def has_nftables() -> bool:
    """Whether nf_tables answers when it is asked for its tables (NFT_MSG_GETTABLE, a dump)."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:  # NETLINK_NETFILTER
            netfilter.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 1, 0x301, 1, 0, 0, 0, 0))
            kind, error = struct.unpack_from("=H10xi", netfilter.recv(4096), 4)
    except OSError:
        return False
    return not (kind == 2 and error)  # NLMSG_ERROR


class Port:
    """Lines and bytes from the host, without reading further than asked."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def line(self) -> bytes:
        """Up to the next end of line."""
        read = bytearray()
        while not read.endswith(b"\n"):
            # One at a time: what follows belongs to whoever this process becomes.
            read += self.exactly(1)
        return bytes(read)

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        parts = []
        while size:
            data = os.read(self.fd, min(size, 1 << 20))
            if not data:  # the host's end is closed, or not there yet
                time.sleep(0.01)
                continue
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def say(self, **words: object) -> None:
        """A line to the host."""
        data = json.dumps(words).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data) :]


class Archive(io.RawIOBase):
    """So many bytes from the host, as a file that is read as it comes: there is no room for it twice."""

    def __init__(self, port: Port, size: int) -> None:
        self.port, self.left = port, size

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none when there are no more."""
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return self.port.exactly(size)


def unpack(archive: Archive) -> None:
    """Deliver files; names are from the root."""
    try:
        with tarfile.open(fileobj=archive, mode="r|", bufsize=1 << 20) as files:
            for member in files:
                content = files.extractfile(member) if member.isreg() else None
                put(member, b"" if content is None else content.read())
    finally:
        while archive.left:
            archive.read(1 << 20)
    # Modules that have come are to be found where none was a moment ago.
    importlib.invalidate_caches()


def put(member: tarfile.TarInfo, content: bytes) -> None:
    """Put a file, link or directory where it belongs.

    What is there already may be in use, a library or the interpreter itself: it is not written to, but replaced. A
    directory that is there stays as it is, with its mode: /tmp is everybody's.
    """
    path = f"/{member.name}"
    if member.isdir():
        if not os.path.isdir(path):
            os.makedirs(path)
            os.chmod(path, member.mode)
    elif not is_there(path, member, content):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if member.issym():
            os.symlink(member.linkname, path)
        else:
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, member.mode)


def is_there(path: str, member: tarfile.TarInfo, content: bytes) -> bool:
    """Whether a path has what is to be put there."""
    try:
        if member.issym():
            return os.path.islink(path) and os.readlink(path) == member.linkname
        if os.path.islink(path) or os.path.getsize(path) != len(content):
            return False
        with open(path, "rb") as file:
            return file.read() == content
    except OSError:
        return False


def forget(files: list[str]) -> None:
    """Remove files, what was compiled of them, and directories that are empty then.

    Also before a file is replaced: what was compiled of it here is told from what would be by its time and size alone.
    """
    for file in files:
        directory, name = os.path.split(file)
        compiled = os.path.join(directory, "__pycache__")
        for made in os.listdir(compiled) if os.path.isdir(compiled) else ():
            if made.startswith(name.removesuffix(".py") + "."):
                os.unlink(os.path.join(compiled, made))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
        with contextlib.suppress(OSError):
            os.rmdir(compiled)
        with contextlib.suppress(OSError):
            os.removedirs(directory)


def branch() -> None:
    """Go on in a child. Here nothing goes on until the child returns; if it ends otherwise, so does this process."""
    # What the child starts and leaves behind becomes a child of this process, as everybody's would of the first.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        return
    status = reap_until(child)
    if os.waitstatus_to_exitcode(status) != BACK:
        os._exit(1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
    end_children()


def end_children() -> None:
    """Kill all that was started here, and what that has started."""
    while True:
        for child in children():
            os.kill(child, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def children() -> list[int]:
    """The processes whose parent this one is (proc(5), stat)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def set_clock(seconds: float) -> None:
    """The wall clock."""
    time.clock_settime(time.CLOCK_REALTIME, seconds)


def reseed(seed: bytes) -> None:
    """Mix a seed into the kernel's random numbers: guests restored from one state would draw the same ones.

    Up to 1000 bytes, which count as so many bytes of entropy.
    """
    with contextlib.suppress(OSError), open("/dev/urandom", "wb", buffering=0) as random:
        size = len(seed)
        fcntl.ioctl(random, RNDADDENTROPY, struct.pack("ii", size * 8, size) + seed)
        fcntl.ioctl(random, RNDRESEEDCRNG)
    with contextlib.suppress(OSError):
        draw_from_added()


def draw_from_added() -> None:
    """Let the pool that getrandom(2) reads take what was added.

    Before 4.8 that is another one (e192be9d9a30, "random: replace non-blocking pool with a Chacha20-based CRNG"), which
    takes of it when it is read, once in a minute at most: what is only added leaves getrandom(2) waiting for ever.
    """
    with open(DRAW_EVERY, "r+") as often:
        seconds = often.read()
        os.pwrite(often.fileno(), b"0", 0)
        with open("/dev/urandom", "rb", buffering=0) as random:
            random.read(POOL)
        os.pwrite(often.fileno(), seconds.encode(), 0)


def settle(words: dict[str, Any]) -> None:
    """What whoever is restored and begins has: the time, random numbers, an environment and a directory."""
    if "clock" in words:
        set_clock(float(words["clock"]))
    if "seed" in words:
        reseed(bytes.fromhex(str(words["seed"])))
    os.environ.clear()
    os.environ.update(words.get("environment") or {})
    os.chdir(str(words.get("directory") or "/"))


def become(fd: int, words: dict[str, Any]) -> None:
    """Become an interpreter as execnet starts one (`python -c "import sys;exec(eval(sys.stdin.readline()))"`)."""
    settle(words)
    user = int(words.get("user") or 0)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.dup2(fd, 0)
    os.dup2(fd, 1)
    os.close(fd)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False, buffering=1)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    line = bytearray()
    while not line.endswith(b"\n"):
        # The host says nothing more until it has been answered: there is nothing to read too much of.
        line += os.read(0, 1 << 16)
    sys.argv = ["-c"]
    run(eval(line.decode()))  # noqa: S307 - that is execnet's protocol


class Frames:
    """The conversation about one program: frames from and to the host, and the program's input and outputs.

    Nothing here has a deadline: in simulated time whoever looks now and then has the clock run on.
    """

    def __init__(self, fd: int, child: int, stdin: int, outputs: dict[int, bytes]) -> None:
        self.fd, self.child, self.stdin, self.outputs = fd, child, stdin, outputs
        self.heard, self.typed, self.is_over = bytearray(), bytearray(), False

    def say(self, kind: bytes, content: bytes) -> None:
        """A frame to the host."""
        data = kind + struct.pack("!I", len(content)) + content
        while data:
            data = data[os.write(self.fd, data) :]

    def hear(self) -> None:
        """Take what the host has sent."""
        self.heard += os.read(self.fd, 1 << 16)
        while len(self.heard) >= 5:
            (size,) = struct.unpack_from("!I", self.heard, 1)
            if len(self.heard) < 5 + size:
                return
            kind, content = bytes(self.heard[:1]), bytes(self.heard[5 : 5 + size])
            del self.heard[: 5 + size]
            if kind == b"i":
                self.typed += content
            elif kind == b"e":
                self.is_over = True
            elif kind == b"w":
                rows, columns = struct.unpack("!HH", content)
                with contextlib.suppress(OSError):
                    resize(self.stdin, rows, columns)

    def type_some(self) -> None:
        """Give the program of its input what it takes; close it at the end."""
        try:
            if self.typed:
                del self.typed[: os.write(self.stdin, self.typed[:4096])]
        except BlockingIOError:
            pass
        except OSError:  # it reads no more
            self.typed.clear()
            self.is_over = True
        if self.is_over and not self.typed and self.stdin not in self.outputs:
            os.close(self.stdin)
            self.stdin = -1

    def pass_on(self, output: int) -> None:
        """Some of an output to the host; an output that has ended is left out from now on."""
        try:
            data = os.read(output, 1 << 14)
        except OSError:  # the other side of a terminal is closed
            data = b""
        if data:
            self.say(self.outputs[output], data)
        else:
            del self.outputs[output]

    def until_it_ends(self, wakened: int) -> int:
        """Pass on all that there is until the program has ended; its status. `wakened` is read when a child ends."""
        while True:
            room = len(self.typed) < 1 << 16
            reading = [wakened, *self.outputs, *([self.fd] if room else [])]
            writing = [self.stdin] if self.stdin >= 0 and (self.typed or self.is_over) else []
            readable, writable, _ = select.select(reading, writing, [])
            if self.fd in readable:
                self.hear()
            if writable:
                self.type_some()
            for output in [output for output in self.outputs if output in readable]:
                self.pass_on(output)
            if wakened in readable:
                os.read(wakened, 4096)
                if (status := self.reaped()) is not None:
                    self.rest()
                    return status

    def reaped(self) -> int | None:
        """Wait for whatever has ended; the program's status if it is among that."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self.child:
                code = os.waitstatus_to_exitcode(status)
                found = code if code >= 0 else 128 - code

    def rest(self) -> None:
        """What the program has left to be read; others that it started may have its outputs open for ever."""
        while self.outputs:
            readable, _, _ = select.select([*self.outputs], [], [], 0)
            if not readable:
                return
            for output in readable:
                self.pass_on(output)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Say how large a terminal is."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def run_program(fd: int, words: dict[str, Any]) -> None:
    """Run a program, with a terminal if the host has one, and tell the host how it ended."""
    settle(words)
    wakened, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    if words.get("size"):
        ours, theirs = os.openpty()
        resize(ours, *words["size"])
        of_the_program, stdin, outputs = (theirs, theirs, theirs), ours, {ours: b"o"}
    else:
        pipes = [os.pipe() for _ in range(3)]
        of_the_program = (pipes[0][0], pipes[1][1], pipes[2][1])
        stdin, outputs = pipes[0][1], {pipes[1][0]: b"o", pipes[2][0]: b"x"}
    child = os.fork()
    if child == 0:
        start(of_the_program, words["argv"], has_terminal=bool(words.get("size")))
    for each in {*of_the_program}:
        os.close(each)
    os.set_blocking(stdin, False)
    frames = Frames(fd, child, stdin, outputs)
    frames.say(b"s", struct.pack("!I", frames.until_it_ends(wakened)))


def start(descriptors: tuple[int, int, int], argv: list[str], *, has_terminal: bool) -> NoReturn:
    """Become the program: these are its input, output and errors."""
    try:
        # Python ignores some, a shell two for what runs in its background; what is ignored stays so in another program.
        for ignored in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_DFL)
        os.setsid()
        if has_terminal:
            fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def run(source: str) -> None:
    """Execute what execnet sends: a module of its own, which is compiled already, and some lines after it."""
    names: dict[str, object] = {"__name__": "__main__", "sys": sys, "compile": compile_once}
    for known, code in COMPILED.items():
        if source.startswith(known):
            source = source[len(known) :]
            exec(code, names)  # noqa: S102
    exec(source, names)  # noqa: S102


def compile_bootstrap() -> None:
    """Compile what execnet will send, once for all: in a guest that takes a good part of a second.

    First a module of its own, then pytest-xdist's of a worker. Where that is another one than the host's, or is not
    there, what comes is compiled when it comes.
    """
    import inspect

    from execnet import gateway_base

    source = inspect.getsource(gateway_base)
    COMPILED[source] = compile(source, "<execnet>", "exec", dont_inherit=True)
    # Not imported: pytest rewrites the assertions of its plugins when it imports them.
    plugin = importlib.util.find_spec("xdist")
    for directory in (plugin and plugin.submodule_search_locations) or ():
        with contextlib.suppress(OSError), open(f"{directory}/remote.py", encoding="utf-8") as file:
            source, name = file.read() + "\n", file.name
            SENT[source, name, "exec"] = compile(source, name, "exec")


def compile_once(source: str, name: str, mode: str) -> CodeType:
    """What compile() is in execnet's own module, which has the same __future__ imports as this one."""
    return SENT.get((source, name, mode)) or compile(source, name, mode)


def collect(argv: list[str], directory: str) -> tuple[int, str]:
    """Let pytest collect, so that it need not import the project after each restore; its exit code, what it said."""
    import pytest

    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)
    with open("/run/collected", "w") as said:
        keep = os.dup(1)
        os.dup2(said.fileno(), 1)
        os.environ[TO_BE_SAVED] = "1"
        try:
            code = int(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *argv]))
        except (Exception, SystemExit):
            # A plugin that cannot be loaded, say: whoever runs the tests hears of it.
            traceback.print_exc()
            code = 3
        finally:
            del os.environ[TO_BE_SAVED]
            sys.stdout.flush()
            os.dup2(keep, 1)
            os.close(keep)
    with open("/run/collected") as said:
        return code, said.read()[-500:]


def imported(but: list[str]) -> list[str]:
    """The files of the modules that are in memory, without those below some directories."""
    files = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    return sorted(file for file in files if file and not any(file.startswith(f"{place}/") for place in but))


def do(port: Port, words: dict[str, Any]) -> dict[str, object]:
    """Do one thing; what there is to say of it."""
    what = words["do"]
    if what == "deliver":
        unpack(Archive(port, words["bytes"]))
        first = words.get("path", [])
        sys.path[:] = [*first, *(path for path in sys.path if path not in first)]
    elif what == "import":
        for name in words["modules"]:
            __import__(name)
        if "execnet" in words["modules"]:
            compile_bootstrap()
    elif what == "check":
        return {"lacking": lacking()}
    elif what == "collect":
        code, said = collect(words["argv"], words["directory"])
        return {"code": code, "said": said, "imported": imported(words["but"]) if "but" in words else []}
    elif what == "become":
        become(port.fd, words)
        os._exit(0)
    elif what == "run":
        run_program(port.fd, words)
        os._exit(0)
    else:
        change(words)
    return {}


def change(words: dict[str, Any]) -> None:
    """What is done when the project has changed."""
    if words["do"] == "forget":
        forget(words["files"])
    elif words["do"] == "branch":
        branch()
    elif words["do"] == "return":
        os._exit(BACK)
    else:
        raise ValueError(f"nothing is known of {words['do']!r}")


def serve(fd: int) -> None:
    """Do what the host says until it is to become its interpreter."""
    port = Port(fd)
    answer: dict[str, object] = {}
    while True:
        port.say(ready=True, **answer)
        words = json.loads(port.line())
        try:
            answer = do(port, words)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        # What is there by now stays: no collection of garbage need look at it again, after any restore.
        gc.collect()
        gc.freeze()


def reap_until(child: int) -> int:
    """Be init: wait for whatever ends, until the child does; its status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def power_off() -> NoReturn:
    """End QEMU."""
    libc.sync()
    libc.reboot(ctypes.c_int(0x4321FEDC))  # RB_POWER_OFF
    raise SystemExit("guest: it goes on without power")


def main() -> None:
    """PID 1."""
    os.environ.update(PATH=PATH, HOME="/root", USER="root", LANG="C.UTF-8")
    mount_all()
    # Before 5.6 getrandom(2) waits for entropy, which nothing here makes. What is drawn until a machine is restored may
    # be known to anybody; then it gets a seed that is not.
    reseed(bytes(SEED))
    load_modules()
    loopback_up()
    track_them_all()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/sys/kernel/hostname", "w") as name:
        name.write("guest")
    fd = open_port()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        try:
            serve(fd)
        finally:
            sys.stdout.flush()
    os.close(fd)
    status = reap_until(child)
    print(f"guest: the interpreter ended with status {status}", flush=True)
    power_off()


if __name__ == "__main__":
    main()
