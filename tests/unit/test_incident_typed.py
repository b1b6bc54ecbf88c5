"""What was typed before an output: the command, and the network namespace that it ran in, however it was entered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.incident.read import read
from harness.incident.reading.typed import Typed, typed

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "State  Recv-Q Send-Q Local Address:Port Peer Address:Port\n"


@pytest.mark.parametrize(
    ("line", "namespace", "command"),
    [
        ("ss -lnt", None, "ss -lnt"),
        ("ss -lnt | grep :80", None, "ss -lnt | grep :80"),
        ("/usr/sbin/sysctl -a", None, "sysctl -a"),
        ("cat /proc/net/netstat", None, "cat /proc/net/netstat"),
        ("LC_ALL=C netstat -s", None, "netstat -s"),
        ("sudo -u root env LC_ALL=C timeout 5 /bin/netstat -s", None, "netstat -s"),
        ("sudo -n ss -lnt", None, "ss -lnt"),
        ("chroot /host ss -lnt", None, "ss -lnt"),
        ("ip netns exec blue ss -lnt", "blue", "ss -lnt"),
        ("docker exec web ss -lnt", "web", "ss -lnt"),
        ("docker exec -it -u root -e A=b web ss -lnt", "web", "ss -lnt"),
        ("docker exec -itu root web sh -c 'ss -lnt'", "web", "ss -lnt"),
        ("sudo docker -H tcp://10.0.0.9 exec web /bin/sh -c 'cat /proc/net/tcp'", "web", "cat /proc/net/tcp"),
        ("docker compose -f a.yml exec -T web ss -lnt", "web", "ss -lnt"),
        ("podman exec 4f5e0c1d2a3b nstat -az", "4f5e0c1d2a3b", "nstat -az"),
        ("crictl exec -it 4f5e ss -lnt", "4f5e", "ss -lnt"),
        ("kubectl exec web-1 -- ss -lnt", "web-1", "ss -lnt"),
        ("kubectl -n prod exec pod/web-1 -c app -- ss -lnt", "web-1", "ss -lnt"),
        ("kubectl exec -it web-1 -n prod -- bash -c 'netstat -s'", "web-1", "netstat -s"),
        ("kubectl exec web-1 ss -lnt", "web-1", "ss -lnt"),
        ("kubectl exec $POD -- ss -lnt", "$POD", "ss -lnt"),
        ("kubectl exec debug -- ip netns exec blue ss -lnt", "blue", "ss -lnt"),
        ("nsenter -t 4242 -n ss -lnt", "pid 4242", "ss -lnt"),
        ("nsenter -nt4242 -- ss -lnt", "pid 4242", "ss -lnt"),
        ("nsenter --target=4242 --net ss -lnt", "pid 4242", "ss -lnt"),
        ("nsenter -t 4242 -a ss -lnt", "pid 4242", "ss -lnt"),
        ("nsenter -n/proc/4242/ns/net ss -lnt", "pid 4242", "ss -lnt"),
        ("nsenter --net=/run/netns/blue ss -lnt", "blue", "ss -lnt"),
        # The mounts of another alone: its sockets are those of here.
        ("nsenter -t 1 -m ss -lnt", None, "ss -lnt"),
    ],
)
@pytest.mark.parametrize("prompt", ["", "$ ", "[root@web1 ~]# ", "root@web1:/tmp# date; "])
def test_a_command_and_its_namespace(prompt: str, line: str, namespace: str | None, command: str) -> None:
    assert typed(prompt + line) == Typed(command, namespace)


@pytest.mark.parametrize(
    "line",
    [
        "docker exec web is slow", "docker exec", "docker exec -it", "docker ps", "kubectl logs web-1",
        "kubectl exec web-1 --", "nsenter -t", "sudo", "timeout 5", "A=b", "ip netns exec ../../etc ss -lnt",
        "Then docker exec web ss -lnt shows it", "net.core.somaxconn = 128", "$ ", "/proc/net/tcp", "",
    ],
)  # fmt: skip
def test_what_is_no_command_of_ours(line: str) -> None:
    assert typed(line) is None


@pytest.mark.parametrize(
    ("begin", "name"),
    [
        ("docker exec -it web bash", "web"),
        ("kubectl exec -it web-1 -n prod -- sh", "web-1"),
        ("sudo nsenter -t 4242 -m -n", None),
        ("sudo nsenter -t 4242 -n bash -l", "pid 4242"),
        ("ip netns exec blue /bin/sh -i", "blue"),
    ],
)
def test_a_shell_in_a_container(tmp_path: Path, begin: str, name: str | None) -> None:
    """Its sockets were taken for those of the host, and two containers' for those of one."""
    file = tmp_path / "typed"
    rows = [f"{HEAD}LISTEN 0 {host} 10.0.0.{host}:80 0.0.0.0:*\n" for host in range(1, 5)]
    inner = f"# {begin}\n# ss -lnt\n{rows[1]}# exit\n# docker exec other ss -lnt\n{rows[2]}"
    file.write_text(f"# ss -lnt\n{rows[0]}{inner}# ss -lnt\n{rows[3]}")
    seen = {each.name: [str(one.local) for one in each.listeners] for each in read([file]).namespaces}
    theirs = {name: ["10.0.0.2:80"]} if name else {}
    ours = ["10.0.0.1:80", *([] if name else ["10.0.0.2:80"]), "10.0.0.4:80"]
    assert seen == {"": ours, **theirs, "other": ["10.0.0.3:80"]}


@pytest.mark.parametrize(("enter", "limits"), [("", [100]), ("docker exec web ", [])])
def test_a_process_of_a_container_has_a_number_of_its_own(tmp_path: Path, enter: str, limits: list[int]) -> None:
    file = tmp_path / "typed"
    head = "Limit                     Soft Limit           Hard Limit           Units\n"
    row = f"Max open files            {100:<20} {100:<20} files\n"
    shown = f'{HEAD}LISTEN 0 128 10.0.0.2:80 0.0.0.0:* users:(("nginx",pid=7,fd=6))\n'
    file.write_text(f"$ {enter}cat /proc/7/limits\n{head}{row}$ ss -lntp\n{shown}")
    assert [each.files_soft for each in read([file]).processes] == limits
