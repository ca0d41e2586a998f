"""A loopback of our own, whose TCP is the distribution's default.

A machine may be set up for long distances (BBR, whose pacing on loopback is a timer for every few segments) and
another one not: figures of the two could not be compared. A network namespace has its own setting, its own
loopback, and ports that nobody else has; the machine's stay as they are.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

from place import CompareError

# Debian's, and that of the kernel.
DEFAULT = "cubic"
CURRENT = Path("/proc/sys/net/ipv4/tcp_congestion_control")

_INSIDE = "TIDEGATE_COMPARE_NETWORK"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def enter(wanted):
    """Starts this program again in a network namespace with `wanted` as congestion control. Does nothing when that
    is what the machine has, when it was done already, and, but for a word, when it may not."""
    if os.environ.get(_INSIDE):
        _loopback_up()
        try:
            CURRENT.write_text(wanted)
        except OSError as error:
            allow = f"add {wanted} to sysctl net.ipv4.tcp_allowed_congestion_control"
            print(f"compare: TCP runs {congestion_control()} ({error.strerror}; {allow})", file=sys.stderr)
        return
    if wanted == congestion_control():
        return
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        print(f"compare: no network namespace may be made; TCP runs {congestion_control()}", file=sys.stderr)
        return
    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    os.execvp(namespace[0], [*namespace, "--", sys.executable, *sys.argv])


def congestion_control():
    """What TCP runs here."""
    return CURRENT.read_text().strip()


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        try:
            flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
        except OSError as error:
            raise CompareError(f"loopback does not come up: {error}") from error
