"""What a run cost: CPU time and memory of a server's processes, as the kernel counts them."""

import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import large_pages
import network
from place import REPOSITORY


@dataclass
class Sample:
    """One run of one scenario against one server.

    `requests` are complete responses. A figure that a scenario does not have is None. `more` holds figures
    that only this scenario has, by name, with the unit at the end of the name.
    """

    requests: int
    seconds: float
    cpu_ns: int
    p50_us: float | None = None
    p99_us: float | None = None
    resident_kib: int | None = None
    more: dict = field(default_factory=dict)

    @property
    def cpu_us_per_request(self):
        return self.cpu_ns / 1000 / self.requests

    @property
    def requests_per_second(self):
        return self.requests / self.seconds


def now():
    """Seconds on a clock that only ever goes on."""
    return time.monotonic()


def descendants(pid):
    """The process and all that it started."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = thread.read_text().split()
        except OSError:
            # The thread has ended since it was listed.
            continue
        for child in children:
            found.extend(descendants(int(child)))
    return found


def cpu_ns(pids):
    """User and system time of each process so far, with all its threads, also those that have ended."""
    times = {}
    for pid in pids:
        try:
            # The process CPU clock of another process: clock_getcpuclockid(3). /proc/PID/stat has the same
            # figure in steps of 10 ms.
            times[pid] = time.clock_gettime_ns(~pid << 3 | 2)
        except OSError:
            # It has ended since it was listed.
            continue
    return times


def cpu_spent_ns(before, after):
    """Between two answers of `cpu_ns`; a process that came in between began at nothing."""
    return sum(spent - before.get(pid, 0) for pid, spent in after.items())


def resident_kib(pids):
    """Memory that the processes hold, pages that they share among each other counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def begin_memory_peak(pids):
    """Makes the highest resident size of each begin anew (proc(5), clear_refs); returns the present sizes in KiB."""
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            # It has ended since it was listed.
            continue
    return {pid: _status_kib(pid, "VmRSS") for pid in pids}


def memory_peak_growth_kib(before):
    """How far the processes have grown at most since `begin_memory_peak`."""
    return sum(max(0, _status_kib(pid, "VmHWM") - size) for pid, size in before.items())


def _status_kib(pid, field_name):
    """A line of /proc/PID/status; 0 for a process that has ended, as nginx's cache loader does."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(f"{field_name}:"):
            return int(line.split()[1])
    return 0


def machine():
    """What the figures depend on, for the log."""
    cpus = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    revision = _output("git", "-C", REPOSITORY, "rev-parse", "HEAD")
    changed = _output("git", "-C", REPOSITORY, "status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": revision + (" with changes" if changed else ""),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME"),
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "tcp_congestion_control": network.congestion_control(),
        "memory_file_pages": large_pages.setting(),
        "load_average_at_start": os.getloadavg()[0],
        "wrk": _first_line("wrk", "-v"),
        "h2load": _first_line("h2load", "--version"),
        "openssl": _first_line("openssl", "version"),
    }


def _first_line(*command):
    return _output(*command).splitlines()[0]


def _output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "missing"
    return (done.stdout or done.stderr).strip() or "unknown"
