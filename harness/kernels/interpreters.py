"""Programs that execnet takes for a Python interpreter, because their input and output are those of one elsewhere.

execnet is given a text, `popen//python=COMMAND`, in which `//` and `=` are its own; so every value of the command is
percent-encoded. What goes wrong before there is an interpreter goes to whoever starts them, by way of a file.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# The variables that name the files in which whoever starts interpreters looks for why one has not come up, and for how
# one was lost that had. What is written there ends with NUL.
TROUBLE, LOSS = "TCP_HARNESS_TROUBLE", "TCP_HARNESS_LOSS"
# The variable that names the directory in which what machines say on their consoles is kept.
CONSOLES = "TCP_HARNESS_CONSOLES"
# Variables of pytest's that are about this process, or this machine's directories.
_OF_HERE = re.compile(r"PYTEST_(XDIST_|CURRENT_TEST$|VERSION$|DEBUG_TEMPROOT$)")


def command(module: str, words: Iterable[str]) -> str:
    """A module of ours, run with these words, as the value of python= in execnet's word for a worker.

    Words that begin with `--` are options of the module's, and stay as they are.
    """
    encoded = [word if word.startswith("--") else quote(word, safe="") for word in words]
    return shlex.join([os.path.normpath(sys.executable), "-m", module, *encoded])


def variables(names: Collection[str]) -> dict[str, str]:
    """What of our environment matters to pytest elsewhere too: these variables, and pytest's own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name in ("CI", "BUILD_NUMBER") or (name.startswith("PYTEST_") and not _OF_HERE.match(name))
    }


def own_words() -> list[str]:
    """The command line without what execnet adds to tell an interpreter: -u -c CODE."""
    return sys.argv[1 : sys.argv.index("-u")] if "-u" in sys.argv else sys.argv[1:]


def report(text: str, *, came_up: bool) -> None:
    """Say what went wrong: to the process that waits for the machine, if it wants to know, or on standard error.

    The end of one that had come up is said on standard error in any case.
    """
    file = os.environ.get(LOSS if came_up else TROUBLE)
    if came_up or file is None:
        print(f"harness: {text}", file=sys.stderr)
    if file is not None:
        with open(file, "a") as listening:  # noqa: PTH123 - a file of another process's
            listening.write(f"{text}\0")
