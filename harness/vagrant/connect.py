"""ssh's way to a machine from outside of its namespaces: ProxyCommand python -m harness.vagrant.connect PID HOST PORT.

With ProxyUseFdpass ssh takes the connection itself, over its end of our standard output.
"""

from __future__ import annotations

import os
import socket
import sys

from harness.lab.isolation import setns

if __name__ == "__main__":
    process, host, port = sys.argv[1:]
    setns(os.open(f"/proc/{process}/ns/net", os.O_RDONLY))
    connection = socket.create_connection((host, int(port)))
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])
