"""Free ports for processes whose addresses others must know before they start."""

import os
import random
import socket

# Below the kernel's range for outgoing connections (32768 and up), so that no client socket of a
# test can take a port between its choice here and its use by a node.
FIRST, LAST = 20_000, 32_000

_chooser = random.Random(os.urandom(8))
_given = set()


def free_port():
    """A port that nobody listens on and that was not given to another test of this run."""
    for _ in range(1000):
        port = _chooser.randrange(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError(f"no free port between {FIRST} and {LAST}")
