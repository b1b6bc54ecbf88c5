"""An application server: a pool of threads, each of which asks a database for a page.

    python -I -S shop.py PORT DATABASE-ADDRESS DATABASE-PORT [options]

It serves, one request a connection, `GET /` out of the database (503 with the errno's name when there is none) and
`GET /health` out of its own head. Nothing but the standard library: it runs without the harness.
"""

from __future__ import annotations

import argparse
import errno
import socket
import struct
import threading


def main() -> None:
    """Listen, and serve in as many threads as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("database")
    parser.add_argument("database_port", type=int)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--connect-timeout", type=float, metavar="S", help="give up connect() after this time")
    parser.add_argument("--sndtimeo", type=int, metavar="S", help="set SO_SNDTIMEO")
    parser.add_argument("--user-timeout", type=int, metavar="MS", help="set TCP_USER_TIMEOUT")
    parser.add_argument("--keepalive", action="store_true", help="set SO_KEEPALIVE")
    options = parser.parse_args()
    family = socket.AF_INET6 if ":" in options.database else socket.AF_INET
    listener = socket.create_server(("", options.port), family=family)
    threads = [threading.Thread(target=serve, args=(listener, options)) for _ in range(options.threads)]
    for thread in threads:
        thread.start()


def serve(listener: socket.socket, options: argparse.Namespace) -> None:
    """One thread of the pool: a request at a time."""
    while True:
        client, _ = listener.accept()
        with client:
            request = client.recv(4096).decode()
            status, page = ("200 OK", "well") if request.startswith("GET /health") else ask(options)
            client.sendall(f"HTTP/1.0 {status}\r\nContent-Length: {len(page)}\r\n\r\n{page}".encode())


def ask(options: argparse.Namespace) -> tuple[str, str]:
    """Ask the database, on a connection of its own."""
    family = socket.AF_INET6 if ":" in options.database else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(options.connect_timeout)
        if options.sndtimeo:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", options.sndtimeo, 0))
        if options.user_timeout:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, options.user_timeout)
        if options.keepalive:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            connection.connect((options.database, options.database_port))
            connection.sendall(b"SELECT 1")
            return "200 OK", connection.recv(4096).decode()
        except TimeoutError as error:  # the application's own has no errno
            return "503 Service Unavailable", errno.errorcode[error.errno] if error.errno else "timeout"
        except OSError as error:
            return "503 Service Unavailable", errno.errorcode[error.errno or errno.EIO]


if __name__ == "__main__":
    main()
