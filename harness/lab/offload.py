"""Switching off what a network card would do: frames that are read raw must be as TCP made them."""

from __future__ import annotations

import array
import errno
import fcntl
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

# include/uapi/linux/ethtool.h
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x17, 0x1F, 0x24, 0x2C
SIOCETHTOOL = 0x8946
FEATURES = {"tx": ETHTOOL_STXCSUM, "tso": ETHTOOL_STSO, "gso": ETHTOOL_SGSO, "gro": ETHTOOL_SGRO}


def switch(control: socket.socket, interface: str, **features: bool) -> None:
    """Set offload features of an interface, named as ethtool -K names them.

    `control` is any socket of the interface's namespace. A feature that the driver does not have stays as it is.
    """
    for name, wanted in features.items():
        value = array.array("I", [FEATURES[name], int(wanted)])
        request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
        try:
            fcntl.ioctl(control, SIOCETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
