"""Where a comparison keeps its files, and what all of its parts share: cores, ports, templates."""

import os
import random
import re
import resource
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

# Below the kernel's range for outgoing connections, so that no client takes a port between choice and use.
FIRST_PORT, LAST_PORT = 20_000, 32_000


class CompareError(Exception):
    """What makes a run worthless: a server that does not start, a response that is not right."""


@dataclass(frozen=True)
class Place:
    """The folder of one comparison and the cores that its parts run on.

    `server_core` and `load_core` are None on a machine with a single core, where only the quick form runs.
    """

    folder: Path
    tidegate: Path
    server_core: int | None
    load_core: int | None

    @property
    def objects(self):
        """What the origin serves."""
        return self.folder / "objects"

    @property
    def certificates(self):
        """A certificate authority, one certificate for 127.0.0.1, and both with the key in one file."""
        return self.folder / "certificates"

    def fresh_folder(self, name):
        """An empty folder for one part; what an earlier run left in it is removed."""
        folder = self.folder / "run" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def pinned(self, cores, command):
        """The command, bound to these cores when the machine has several."""
        words = [str(word) for word in command]
        return words if None in cores else ["taskset", "--cpu-list", ",".join(map(str, cores)), *words]


_chooser = random.Random(os.urandom(8))
_given = set()


def free_port():
    """A port of loopback that nobody listens on and that was not given out before."""
    for _ in range(1000):
        port = _chooser.randrange(FIRST_PORT, LAST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise CompareError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def render(template, target, **values):
    """Writes config/TEMPLATE to `target` with every @name@ replaced; a name without value is an error."""
    text = (HERE / "config" / template).read_text()
    target.write_text(re.sub(r"@(\w+)@", lambda found: str(values[found.group(1)]), text))
    return target


def nginx_user():
    """What lets nginx read these files when root runs it: its worker would turn into somebody else."""
    return "user root;" if os.geteuid() == 0 else ""


def wait_until(question, what, seconds=30.0):
    """Asks until the answer is true; for peers that send no event."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > end:
            raise CompareError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
    return answer


def raise_open_files():
    """Lets this process and its children open as many files as the machine allows; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
