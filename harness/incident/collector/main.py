"""The program: look, wait, look again, print."""

import argparse
import json
import os
import sys
import time

from harness.incident.collector.kernel import log, machine, softnet_now
from harness.incident.collector.listeners import Watched, holders, process
from harness.incident.collector.namespaces import Space, others, say
from harness.incident.collector.offloads import interfaces
from harness.incident.collector.places import NET, counter_names, sample, text
from harness.incident.collector.pseudonyms import Pseudonyms
from harness.incident.collector.sysctls import sysctls
from harness.incident.collector.tables import socket_table
from harness.incident.collector.tracked import STATISTICS, tracked_statistics, tracked_table

SCHEMA = 1
# Flows of the machine's own namespace, and of any other: about 100 bytes each.
MOST_FLOWS, MOST_FLOWS_OF_OTHERS = 1200, 150
BETWEEN_LOOKS = 0.25
# Seconds for the other namespaces together.
PATIENCE_WITH_OTHERS = 5.0


class Visit:
    """What is collected in one namespace; of its sysctls, those that are not as `usual`."""

    def __init__(self, pseudonyms: Pseudonyms, most: int, usual: "dict[str, str] | None" = None) -> None:
        self.pseudonyms = pseudonyms
        self.most = most
        self.usual = usual or {}
        self.watched = Watched()

    def first(self) -> "dict[str, object]":
        """Everything, with the first sample of the counters."""
        began = sample()
        self.watched.look()
        whole = {
            "samples": [began],
            "sysctls": {
                name: value for name, value in sysctls(self.pseudonyms).items() if self.usual.get(name) != value
            },
            "sockets": socket_table(self.watched.ports, self.pseudonyms, self.most),
            "interfaces": interfaces(self.pseudonyms),
            "conntrack": self._conntrack(),
        }  # type: dict[str, object]
        self.watched.look()
        return whole

    def listeners(self) -> "dict[str, object]":
        """The listeners as they were seen so far."""
        return {"listeners": self.watched.shown(self.pseudonyms), "listeners_left_out": self.watched.left_out}

    def _conntrack(self) -> "dict[str, object]":
        table = tracked_table()
        shown = {"statistics": tracked_statistics(text(STATISTICS))}  # type: dict[str, object]
        if table is not None:
            shown["total"] = table.total
            shown["states"] = table.states
            shown["flows"] = [self._tracked(*flow) for flow in table.largest(self.most // 4)]
        return shown

    def _tracked(self, key: "tuple[str, ...]", numbers: "list[int]", sources: int, ports: int) -> "list[object]":
        protocol, state, destination, port, seen_as, answers, answers_port = key
        shown = [self.pseudonyms.text(address) if address else "" for address in (destination, seen_as, answers)]
        ends = [shown[0], int(port)], shown[1], [shown[2], int(answers_port)]
        return [protocol, state, *ends, numbers[0], numbers[2], sources, ports]


def other_namespace(pseudonyms: Pseudonyms, usual: "dict[str, str]") -> "dict[str, object]":
    """One visit to another namespace: two looks at its listeners, one sample; a second visit has the other sample."""
    visit = Visit(pseudonyms, MOST_FLOWS_OF_OTHERS, usual)
    whole = visit.first()
    whole.update(visit.listeners())
    whole["given"] = pseudonyms.given
    return whole


def take(seconds: float, pseudonyms: Pseudonyms) -> "dict[str, object]":
    """The whole snapshot; the two samples are at least so many seconds apart."""
    began = time.monotonic()
    processors = softnet_now()
    own = Visit(pseudonyms, MOST_FLOWS)
    namespaces = [dict(own.first(), name="")]  # type: list[dict[str, object]]
    seen, left_out = visit_others(pseudonyms, namespaces[0]["sysctls"])  # type: ignore[arg-type]
    while time.monotonic() - began < seconds:
        time.sleep(BETWEEN_LOOKS)
        own.watched.look()
    namespaces[0].update(own.listeners())
    namespaces[0]["samples"].append(sample())  # type: ignore[attr-defined]
    for space, visited in seen:
        again = space.do(sample)
        if again is not None:
            visited["samples"].append(again)  # type: ignore[attr-defined]
        namespaces.append(dict(visited, name=space.name))
    return {
        "schema": SCHEMA,
        "program": "harness snapshot",
        "taken": time.time(),
        "machine": machine(processors),
        "log": log(),
        "counter_names": counter_names(),
        "processes": processes(namespaces),
        "namespaces": namespaces,
        "namespaces_left_out": left_out,
        "took": round(time.monotonic() - began, 3),
    }


def visit_others(
    pseudonyms: Pseudonyms, usual: "dict[str, str]"
) -> "tuple[list[tuple[Space, dict[str, object]]], int]":
    """What was found in the other namespaces, as far as the time reaches; how many were not seen."""
    spaces, left_out = others(pseudonyms)
    seen = []
    until = time.monotonic() + PATIENCE_WITH_OTHERS
    for space in spaces:
        visited = visit_of(space, pseudonyms, usual) if time.monotonic() < until else None
        if visited is None:
            left_out += 1
        else:
            seen.append((space, visited))
    return seen, left_out


def processes(namespaces: "list") -> "list[dict[str, object]]":  # type: ignore[type-arg]
    """The processes that hold the listeners of all namespaces; their numbers are noted with the listeners."""
    listeners = [listener for space in namespaces for listener in space["listeners"]]
    held = holders({int(listener["mark"]) for listener in listeners})
    for listener in listeners:
        listener["processes"] = held.get(int(listener["mark"]), [])
    return [process(number) for number in sorted({number for several in held.values() for number in several})]


def visit_of(space: Space, pseudonyms: Pseudonyms, usual: "dict[str, str]") -> "dict[str, object] | None":
    """What was found in another namespace; the pseudonyms given there are kept here."""
    found = space.do(lambda: other_namespace(pseudonyms, usual))
    if not isinstance(found, dict):
        return None
    for real, pseudonym in found.pop("given").items():
        pseudonyms.remember(real, pseudonym)
    return found


def arguments() -> "argparse.Namespace":
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Prints what this machine's kernel says of TCP, as JSON. It changes nothing. Addresses and names "
        "are replaced by pseudonyms; it reads no payload, no environment and no argument of a command line."
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="between the two samples of counters [3]")
    parser.add_argument("--key", default="", help="a word of yours: the same gives the same pseudonyms, on any machine")
    parser.add_argument(
        "--table", default="", help="a new file for the pseudonyms and what they stand for: for yourself"
    )
    return parser.parse_args()


def main() -> int:
    """Print a snapshot; the exit code."""
    asked = arguments()
    if not 0 <= asked.seconds <= 600:
        say("--seconds %s: give a number from 0 to 600" % asked.seconds)
        return 2
    if not os.path.isdir(NET):
        say("/proc/self/net: no such directory: this is not Linux, or /proc is not mounted")
        return 2
    pseudonyms = Pseudonyms(asked.key.encode()[:32] if asked.key else os.urandom(32))
    taken = take(asked.seconds, pseudonyms)
    if asked.table and not write_table(asked.table, pseudonyms):
        return 2
    json.dump(taken, sys.stdout, separators=(",", ":"), sort_keys=True)
    sys.stdout.write("\n")
    return 0


def write_table(path: str, pseudonyms: Pseudonyms) -> bool:
    """Write what the pseudonyms stand for, for its owner alone; a file that is there already stays."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        say("--table {}: cannot be written: {}".format(path, error.strerror))
        return False
    with open(descriptor, "w") as table:
        for real, pseudonym in sorted(pseudonyms.given.items()):
            table.write("{}\t{}\n".format(pseudonym, real))
    return True


if __name__ == "__main__":
    sys.exit(main())
