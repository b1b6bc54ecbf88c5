"""packetdrill for tests: the real one, where the machine has it, and a stand-in that says what it was started with.

Debian has no package of it: `make testing` cannot bring it. It is looked for by the variable PACKETDRILL, and then as a
shell would.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Waits for a connection, and reads what comes: what any kernel does.
SERVER = """\
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0...0.2 accept(3, ..., ...) = 4
+.1 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+.1 < . 1:1(0) ack 1 win 257
+.1 < P. 1:1001(1000) ack 1 win 257
+0 > . 1:1(0) ack 1001
+0 read(4, ..., 1000) = 1000
"""
# The same, and what no kernel does.
WRONG = SERVER.replace("ack 1001", "ack 1002")
# Prints where and how it was started, and fails as packetdrill does unless its script begins with "ok".
STAND_IN = """\
#!/bin/sh
for word; do script=$word; done
python3 -c 'import sys; print(sys.version_info[:2])' || exit 1
echo "$$" >/tmp/left-by-a-script || exit 1
[ -e "/proc/$$/task/$$" ] || exit 1
echo "here: $(pwd -P)"
echo "words: $*"
read -r first <"$script"
[ "$first" = ok ] && exit 0
echo "noise of a program" >&2
echo "$script:1: error handling packet: it is not ok" >&2
exit 1
"""


def the_real_one() -> str:
    """Its path; skips where there is none."""
    path = os.environ.get("PACKETDRILL") or shutil.which("packetdrill")
    if not path:
        pytest.skip(
            "packetdrill is not installed, and Debian has no package of it; PACKETDRILL names one that was built"
        )
    return path


def stand_in(directory: Path) -> Path:
    """The stand-in as a program in a directory."""
    program = directory / "packetdrill"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return program
