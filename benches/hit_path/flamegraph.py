#!/usr/bin/env python3
"""Where the time of a hit goes, as a flame graph: kernel and server together.

    benches/hit_path/flamegraph.py [BINARY] [OUT]

Starts the binary (by default that of the release profile) with one worker on core 0 and wrk on core 1, samples it for
SECONDS, and writes an SVG (by default `docs/hit-path.svg`). Wants perf (Debian: linux-perf) and inferno
(`cargo install inferno`).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from instructions import HERE, Origin, ask, configure, free_port, hot, serving

BINARY = HERE.parent.parent / "target/release/tidegate"
OUT = HERE.parent.parent / "docs/hit-path.svg"
SECONDS = 5
CONNECTIONS = 32
# As much as perf takes: without frame pointers it copies the stack with every sample.
STACK_BYTES = 65528


def main():
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else BINARY
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    for program in ("perf", "wrk", "inferno-collapse-perf", "inferno-flamegraph"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as folder, Origin() as origin:
        edge, admin = free_port(), free_port()
        config = configure(folder, edge, admin, origin, "access_log: off")
        command = ["taskset", "-c", "0", str(binary), "edge", "--config", str(config)]
        with serving(*command) as (process, _):
            ask(edge, hot, 1)
            samples = sampled(process.pid, edge, folder)
    title = ["--title", "A 1 KiB hit from memory, HTTP/1.1", "--width", "1600"]
    drawn = subprocess.run(["inferno-flamegraph", *title], input=samples, stdout=subprocess.PIPE, check=True)
    out.write_bytes(drawn.stdout)
    print(f"{out}: {len(samples.splitlines())} different stacks")


def sampled(pid, port, folder):
    """The stacks of the process under load, folded."""
    load = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS + 2}s"]
    with subprocess.Popen([*load, f"http://127.0.0.1:{port}/1k"], stdout=subprocess.DEVNULL):
        data = f"{folder}/perf.data"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-p", str(pid), "-o", data]
        record += ["--call-graph", f"dwarf,{STACK_BYTES}", "--", "sleep", str(SECONDS)]
        subprocess.run(record, check=True, stderr=subprocess.DEVNULL)
    script = subprocess.run(["perf", "script", "-i", data], capture_output=True, check=True)
    folded = subprocess.run(["inferno-collapse-perf"], input=script.stdout, capture_output=True, check=True)
    return folded.stdout


if __name__ == "__main__":
    main()
