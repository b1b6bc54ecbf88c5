"""Evidence: what the runs of a claim measured, as JSON that outlives the run; one file a claim, `GROUP.ID.json`.

Schema version 1:

    schema      1
    harness     version of this package
    claim       name, statement, sources [{document, heading}],
                expectations [{kernels, verdict, because, commit, subject, release}]
    runs        one entry for each test (family, parameters, kernel) that a session ran, sorted by kernel and nodeid:
      kernel      {release, version, machine}: release as `uname -r` has it, version as compared with expectations
      nodeid      pytest's name of the test
      params      what stands in its brackets, "ipv4"
      options     those of pytest that the test does not run without, ["--full-size"]
      outcome     expected | unexpected | unexplained | broken | incomplete | failed | unsettled
      verdict     holds | refuted | not-applicable | null
      expected    the verdict that the claim file expects on this kernel, or null
      reason      why the outcome is not "expected"; "" if it is
      started     seconds since the epoch
      duration    seconds of the test's call
      absence     {why, shown}, where the verdict is not-applicable
      impairments [{kind: drop | hold, host, match {flags, sport, dport, ack, first, count}, since, until, dropped}]:
                  what the scenario did to segments as they arrived; held ones were let go later
      packets     name of the pcapng file beside this one, or null
      phases      in their order:
        kind        effect | control
        title
        knobs       {host: {sysctl: [before the lab set it, in force]}}
        counters    {host: {MIB name: [before, after, delta]}}, those that moved
        sockets     {host: {total, states {state: n}, rows [[state, recv_q, send_q, local, remote, timer]]}}
                    at the end of the phase, 20 rows at most
        comparisons [{what, measured, document, kernel, result: document | kernel | neither}] of compare(), and
                    [{what, measured, wanted, result: met | not met}] of expect(); `where` if it went wrong
        notes       {key: value}
        series      {name: {x, unit, points [[x, y]]}}; x is a number, or the name of a bar
        interrupted the error that ended the phase early

What two runs never have in common (the two times, ports that were drawn, …): STAMPS in harness.claims.canonical.

Parts that are empty are left out. A session begins a claim's file anew and rewrites it, whole, after each run (written
beside, then renamed), so that an interrupted session leaves files that can be read.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from harness.claims.data import Claim, Expectation
    from harness.laws.kernel import KernelVersion

SCHEMA = 1


@cache
def harness_version() -> str:
    """The version of the installed package; "uninstalled" in a checkout that is only on the path."""
    try:
        return metadata.version("tcp-harness")
    except metadata.PackageNotFoundError:
        return "uninstalled"


def claim_as_dict(claim: Claim) -> dict[str, Any]:
    """The part of the evidence that repeats the claim file."""
    return {
        "name": claim.name,
        "statement": claim.statement,
        "sources": [{"document": one.document, "heading": one.heading} for one in claim.sources],
        "expectations": [_expectation_as_dict(one) for one in claim.expectations],
    }


def _expectation_as_dict(one: Expectation) -> dict[str, Any]:
    row = {"kernels": one.kernels, "verdict": str(one.verdict), "because": one.because}
    if one.boundary is not None:
        row |= {
            "commit": one.boundary.commit,
            "subject": one.boundary.subject,
            "release": one.boundary.release,
        }
        row |= {"tool": one.boundary.tool} if one.boundary.tool else {}
    return row


def kernel_as_dict(kernel: KernelVersion) -> dict[str, str]:
    """The part of the evidence that names the kernel."""
    version = ".".join(str(number) for number in kernel.release)
    candidate = f"-rc{kernel.candidate}" if kernel.candidate else ""
    return {"release": str(kernel), "version": version + candidate, "machine": os.uname().machine}


def document(claim: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of an evidence file."""
    ordered = sorted(runs, key=lambda run: (run["kernel"]["release"], run["nodeid"]))
    return {"schema": SCHEMA, "harness": harness_version(), "claim": claim, "runs": ordered}


def read(path: Path) -> dict[str, Any]:
    """An evidence file; BadInput if it is not one, or one of another schema version."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not an evidence file: {error}") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise BadInput(f"{path}: evidence of schema {schema!r}, this harness reads {SCHEMA}; run the scenario again")
    return dict(found)


@dataclass
class EvidenceDirectory:
    """The directory that a session's evidence goes to; made with the first run."""

    path: Path
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[tuple[str, str], dict[str, Any]]] = field(default_factory=dict)
    packet_files: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, claim: dict[str, Any], run: dict[str, Any], packets: bytes | None = None) -> None:
        """Keep a run, and write its claim's file; a run of the same test on the same kernel is replaced.

        Raises BadInput if the directory cannot be written.
        """
        name = claim["name"]
        key = (run["kernel"]["release"], run["nodeid"])
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            run["packets"] = None
            if packets is not None:
                run["packets"] = self._packet_file(name, run["params"], key)
                write_whole(self.path / run["packets"], packets)
            self.claims[name] = claim
            self.runs.setdefault(name, {})[key] = run
            whole = document(claim, list(self.runs[name].values()))
            write_whole(self.path / f"{name}.json", _compact(whole).encode())
        except OSError as error:
            raise BadInput(f"evidence cannot be written to {self.path}: {error.strerror}; see --evidence") from None

    def _packet_file(self, claim: str, params: str, key: tuple[str, str]) -> str:
        stem = "-".join(part for part in (claim, re.sub(r"[^\w.-]+", "-", params).strip("-")) if part)
        name, number = f"{stem}.pcapng", 1
        while self.packet_files.setdefault(name, key) != key:
            number += 1
            name = f"{stem}-{number}.pcapng"
        return name


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _compact(whole: dict[str, Any]) -> str:
    """JSON of which one looks at the top: a line for each part, a line for each run."""
    runs = ",\n".join(json.dumps(run, ensure_ascii=False) for run in whole["runs"])
    head = {key: value for key, value in whole.items() if key != "runs"}
    return f'{json.dumps(head, ensure_ascii=False, indent=1)[:-2]},\n "runs": [\n{runs}\n]}}\n'
