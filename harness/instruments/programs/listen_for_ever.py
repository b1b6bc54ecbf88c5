"""A program that listens on some port until a signal ends it: `python -I -S listen_for_ever.py`."""

import signal
import socket

listener = socket.socket()
listener.listen()
signal.pause()
