"""python -m bench.probes.isolation: the tests of labs, and the machine before and after; it runs in a sandbox.

Ends with 1 where a test failed or anything is not as it was, and says what.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench.probes.sandbox import PROJECT

# Those that need no more than a sandbox has: no network namespace that the kernel began with.
TESTS = [
    str(PROJECT / "tests" / "lab" / f"test_lab_{name}.py")
    for name in ("firewall", "links", "namespaces", "programs", "topologies", "untouched")
]
# What a machine changes by itself.
MOVES = re.compile(
    r"/(random/|ns_last_pid|file-nr|inode-|dentry-state|aio-nr|pty/nr|keys/|sched_domain|tcp_mem|udp_mem|drop_caches|"
    r"perf_event_max_sample_rate|perf_cpu|msg_next_id|shm_next_id|sem_next_id|cad_pid|flush$|nr_hugepages)"
)
COMMANDS = (
    ("ip", "-o", "link"), ("ip", "address"), ("ip", "rule"), ("ip", "route", "show", "table", "all"), ("ip", "netns"),
    ("nft", "list", "ruleset"),
    ("git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(PROJECT), "status", "--short"),
)  # fmt: skip


def picture() -> dict[str, str]:
    """What a run must not change: sysctls, mounts, links, addresses, routes, rules, the clone's files."""
    found = {
        str(file): _content(file)
        for file in sorted(Path("/proc/sys").rglob("*"))
        if file.is_file() and not MOVES.search(str(file))
    }
    found["mounts"] = Path("/proc/self/mountinfo").read_text()
    for argv in COMMANDS:
        found[" ".join(argv)] = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    return found


def _content(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # it can only be written
        return ""


def main() -> int:
    """Look, run, look again."""
    before = picture()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tcp-evidence", "/mnt/here/e", *TESTS]
    ran = subprocess.run(argv, cwd=PROJECT, check=False, capture_output=True, text=True)
    after = picture()
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    for name in changed:
        print(f"{name} was {before.get(name)!r:.500} and is {after.get(name)!r:.500}")
    print(ran.stdout[-3000:] if ran.returncode else "", ran.stdout.strip().rpartition("\n")[2], sep="\n")
    return 1 if changed or ran.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
