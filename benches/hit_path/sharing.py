#!/usr/bin/env python3
"""How many cache lines workers take from one another for a hit, with as many workers as you like.

    benches/hit_path/sharing.py [BINARY] [WORKERS,...]

Runs the binary (by default that of the dev profile) under qemu-user with a plugin (`sharing/lines.c`) that gives
each thread a coherent cache of its own, and counts lines that move from one worker to another: a line is read that
another worker wrote, or written while another one has it. Such moves are what more processors cost a program that has no
lock to wait for. The machine needs no more than one processor for it; threads meet in short turns. h2load asks for the same
1 KiB object over 16 connections for each worker, N times and then, with a new process, 5 N times, and the difference is divided:
what the process does once falls away, but for what chance adds. The kernel's accesses are not seen.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from instructions import BINARY, HERE, Origin, ask, configure, free_port, hot, serving

WORKERS = [1, 2, 4, 8]
REQUESTS = 5000
TIMES = 5
CONNECTIONS_OF_A_WORKER = 16


def moves_per_hit(binary, workers, requests=REQUESTS):
    """The moves of one hit by the function that caused them, as its mangled name."""
    some, more = (moves(binary, workers, count) for count in (requests, TIMES * requests))
    more.subtract(some)
    return {name: moved / (TIMES - 1) / requests for name, moved in more.items()}


def moves(binary, workers, requests):
    """The moves of a whole process that answers so many requests."""
    with tempfile.TemporaryDirectory() as folder, Origin() as origin:
        plugin, preloaded = (built(name, folder) for name in ("lines", "processors"))
        edge, admin = free_port(), free_port()
        config = configure(folder, edge, admin, origin, "access_log: off", workers)
        counted = Path(folder) / "counted"
        command = ["qemu-x86_64", "-cpu", "max", "-E", f"LD_PRELOAD={preloaded}", "-E", f"PROCESSORS={workers}"]
        command += ["-plugin", f"file={plugin},out={counted},between=edge-", str(binary), "edge", "--config", str(config)]
        with serving(*command):
            ask(edge, hot, 1)
            connections = str(CONNECTIONS_OF_A_WORKER * workers)
            url = f"http://127.0.0.1:{edge}/1k"
            load = subprocess.run(
                ["h2load", "--h1", "-n", str(requests), "-c", connections, url],
                check=True,
                capture_output=True,
                text=True,
            )
            succeeded = re.search(r"(\d+) succeeded", load.stdout)
            assert succeeded and int(succeeded[1]) == requests, load.stdout
        moved = Counter()
        threads, *lines = counted.read_text().splitlines()
        assert int(threads) == workers, f"{threads} threads have a worker's name"
        for line in lines:
            reads, writes, _, name = line.split(" ", 3)
            moved[name] += int(reads) + int(writes)
        return moved


def built(name, folder):
    """A library made of a source beside this file."""
    library = Path(folder) / f"{name}.so"
    source = HERE / "sharing" / f"{name}.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def main():
    arguments = sys.argv[1:]
    counts = WORKERS
    if arguments and re.fullmatch(r"[\d,]+", arguments[-1]):
        counts = [int(count) for count in arguments.pop().split(",")]
    binary = Path(arguments[0]) if arguments else BINARY
    for workers in counts:
        moved = moves_per_hit(binary, workers)
        print(f"{sum(moved.values()):>6.2f} lines moved for a hit, {workers} workers", flush=True)
        for name, share in sorted(moved.items(), key=lambda item: -item[1]):
            if share >= 0.05:
                print(f"{share:>13.2f} {name}")


if __name__ == "__main__":
    main()
