"""What an operator takes of a machine: what `harness snapshot` prints, and a transcript of the commands he types."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from harness.claims.files import load
from harness.diagnosis.diagnose import diagnose
from harness.incident.read import read
from harness.incident.snapshot import program
from harness.waiting import let_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.diagnosis.findings import Diagnosis
    from harness.lab import Host

CLAIMS = Path(__file__).parents[2] / "scenarios" / "claims"
# Between the two sets of counters; `date` says whole seconds.
BETWEEN = 3
COUNTERS = ("nstat -asz", "cat /proc/net/sockstat", "cat /proc/net/stat/nf_conntrack", "ss -lntmpe")
STATE = ("uname -a", "sysctl -a", "ss -tanpoi", "cat /proc/net/nf_conntrack")


class Files:
    """The files of a host, in a directory of their own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.directory = host.lab.directory / f"{host.name}-files"
        self.directory.mkdir(exist_ok=True)

    def snapshot(self, meanwhile: Callable[[], object] = lambda: None, *, goes_on: bool = False) -> Path:
        """What the program of `harness snapshot` prints; `meanwhile` the incident goes on.

        With `goes_on` until the program has ended: on a busy machine its first look may come after the whole incident.
        """
        script, taken = self.directory / "snapshot.py", self.directory / "snapshot.json"
        script.write_text(program())
        printed: list[str] = []
        run = threading.Thread(target=lambda: printed.append(self._run(script)))
        run.start()
        meanwhile()
        while goes_on and run.is_alive():
            meanwhile()
        run.join()
        assert json.loads(printed[0])["namespaces"]
        taken.write_text(printed[0])
        return taken

    def transcript(self, meanwhile: Callable[[], object] = lambda: None) -> Path:
        """The commands with their outputs in one file, the counters twice; `meanwhile` the incident goes on."""
        taken = self.directory / "transcript.txt"
        first = self._typed(COUNTERS)
        meanwhile()
        let_pass(BETWEEN)
        taken.write_text(first + self._typed((*STATE, *COUNTERS)))
        return taken

    def _run(self, script: Path) -> str:
        return self.host.run(sys.executable, script, "--seconds", BETWEEN).stdout

    def _typed(self, commands: tuple[str, ...]) -> str:
        lines = [f"echo '$ {command}'; {command} 2>/dev/null" for command in ("date", *commands)]
        return self.host.run("sh", "-c", "\n".join(("export LC_ALL=C TZ=UTC", *lines)), check=False).stdout


def diagnosed(*files: Path) -> Diagnosis:
    """What the files say, and nothing but them."""
    return diagnose(read(files), load(CLAIMS))


def said(diagnosis: Diagnosis) -> list[tuple[str, int]]:
    """The findings by name and port, in their order.

    Without what all labs of the machine share, its processors, and without the other hosts of the lab: they are network
    namespaces of one machine, which a snapshot sees as well.
    """
    return [
        (finding.diagnosis, finding.place.endpoint.port if finding.place.endpoint else 0)
        for finding in diagnosis.findings
        if finding.diagnosis != "processor-backlog" and not finding.place.namespace
    ]
