#!/usr/bin/env python3
"""What a hit costs when 10, 100, 1,000 or 10,000 connections ask in turn.

    benches/hit_path/connections.py [BINARY] [SECONDS]

Starts the binary (by default that of the release profile) with one worker on core 0 and wrk on core 1,
and divides the CPU time that the process spends in SECONDS (10) by the number of hits. 10,000 connections take 20,000 file
descriptors (`ulimit -n`).
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from instructions import HERE, Origin, ask, configure, free_port, hot, serving

BINARY = HERE.parent.parent / "target/release/tidegate"
CONNECTIONS = [10, 100, 1_000, 10_000]
ROUNDS = 3


def main():
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else BINARY
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, Origin() as origin:
        edge, admin = free_port(), free_port()
        config = configure(folder, edge, admin, origin, "access_log: off")
        command = ["taskset", "-c", "0", str(binary), "edge", "--config", str(config)]
        with serving(*command) as (process, _):
            ask(edge, hot, 1)
            costs = {number: [] for number in CONNECTIONS}
            for _ in range(ROUNDS):
                for number in CONNECTIONS:
                    costs[number].append(cost(process.pid, edge, admin, number, seconds))
            print("connections   CPU per hit (median)   resident at the end")
            for number, measured in costs.items():
                median = sorted(measured, key=lambda pair: pair[0])[ROUNDS // 2]
                print(f"{number:>11}   {median[0]:.1f} us {median[1] // 1024:>24} MiB")


def cost(pid, port, admin, connections, seconds):
    """Microseconds of CPU time for each hit, and resident KiB at the end.

    The first half of the time is for the connections to be made and is not counted.
    """
    load = ["taskset", "-c", "1", "wrk", "-t1", "-c", str(connections), "-d", f"{2 * seconds:.0f}s"]
    with subprocess.Popen(
        [*load, f"http://127.0.0.1:{port}/1k"], stdout=subprocess.DEVNULL
    ) as wrk:
        time.sleep(seconds)
        spent, hits = cpu_seconds(pid), answered(admin)
        time.sleep(0.9 * seconds)
        spent, hits = cpu_seconds(pid) - spent, answered(admin) - hits
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        wrk.wait()
    return spent / hits * 1e6, int(resident[1])


def answered(admin):
    """Hits so far, as the process counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as response:
        text = response.read().decode()
    hits = re.findall(r'^tidegate_requests_total{outcome="hit".*} (\d+)$', text, re.MULTILINE)
    return sum(map(int, hits))


def cpu_seconds(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    main()
