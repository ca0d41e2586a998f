"""The real binary as a child process: started, heard, measured and ended."""

import json
import os
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

from .exposition import Exposition
from .waiting import PATIENCE_SECONDS, Deadline

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("TIDEGATE_BIN", REPOSITORY / "target/debug/tidegate"))

# What the operator would see of a bug of ours.
PANIC = "panicked at"


class Output:
    """The lines of a stream, in a thread of their own; others wait for lines to come."""

    def __init__(self, stream):
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, found, seconds=PATIENCE_SECONDS):
        """Calls `found(lines)` at every new line until it returns something true, and returns that.

        Returns None when the stream ends or the time is over first.
        """
        deadline = Deadline(seconds)
        with self._changed:
            while True:
                answer = found(self.lines)
                if answer:
                    return answer
                if self._ended or deadline.passed():
                    return None
                self._changed.wait(deadline.left())

    def wait_for_end(self, seconds=PATIENCE_SECONDS):
        """Waits until the other side has closed the stream."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the stream is still open"


class Node:
    """One running `tidegate`."""

    def __init__(self, arguments, *, admin=None, http=None, https=None, s3=None, ca=None, cwd=None, small_pages=False):
        """Addresses are `host:port` as the configuration has them; `ca` is a file.

        `small_pages` makes the allocator ask for pages of 4 KiB, for what measures memory by less than many huge
        pages of 2 MiB: as many of those come or not as other threads happen to run.
        """
        self.arguments = [str(argument) for argument in arguments]
        self.admin, self.http, self.https, self.s3, self.ca = admin, http, https, s3, ca
        environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
        if small_pages:
            environment["MIMALLOC_ALLOW_THP"] = "0"
        assert BINARY.exists(), f"{BINARY} is missing: build it, or set TIDEGATE_BIN"
        self.process = subprocess.Popen(
            [BINARY, *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env=environment,
        )
        self.stdout = Output(self.process.stdout)
        self.stderr = Output(self.process.stderr)
        self.killed = False

    @property
    def pid(self):
        return self.process.pid

    def wait_until_ready(self):
        """Waits for the line that says so, and asks the admin surface whether it agrees."""
        ready = self.stderr.wait_for(lambda lines: any(line.endswith(": ready") for line in lines))
        assert ready, f"not ready:\n{self.log_tail()}"
        if self.admin:
            assert self.ask_admin("/readyz") == "ready\n"
        return self

    def log_tail(self, lines=60):
        return "\n".join(self.stderr.lines[-lines:])

    def ask_admin(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as response:
            return response.read().decode()

    def metrics(self):
        return Exposition(self.ask_admin("/metrics"))

    def wait_for_count(self, name, count, **labels):
        """Waits until a counter has come to `count`, and returns what it has come to."""
        deadline = Deadline()
        while (now := self.metrics().sum(name, **labels)) < count and not deadline.passed():
            pass
        return now

    def origin_requests(self):
        """How often the edge has asked its origins."""
        return self.metrics().sum("tidegate_origin_requests_total")

    def purges(self):
        """How many purges by tag the edge was told of: so the store tells what has changed."""
        return self.metrics().sum("tidegate_purges_total", kind="tag")

    def wait_for_purge(self, told):
        """Waits until the edge was told of more purges by tag than `told`."""
        deadline = Deadline()
        while self.purges() <= told:
            assert not deadline.passed(), f"the store told of nothing:\n{self.log_tail()}"

    def records(self, **fields):
        """The access log so far, as far as its records carry these fields."""
        return _records(self.stdout.lines, fields)

    def wait_for_records(self, count, **fields):
        """Waits until `count` such records are in the access log, and returns all of them.

        A request is counted in the metrics before its record is written.
        """

        def enough(lines):
            found = _records(lines, fields)
            return found if len(found) >= count else None

        found = self.stdout.wait_for(enough)
        assert found is not None, (
            f"expected {count} records with {fields}, got {self.records(**fields)}\n{self.log_tail()}"
        )
        return found

    def memory_kib(self, field="VmHWM"):
        """A line of /proc/PID/status: VmRSS is what is resident now, VmHWM the most so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {field} for {self.pid}")

    def reset_memory_peak(self):
        """Makes VmHWM begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def kill(self):
        """SIGKILL: what a power switch is to a process."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=PATIENCE_SECONDS):
        """Ctrl-C; the exit code."""
        self.killed = True
        self.process.send_signal(signal.SIGINT)
        return self.wait_for_exit(seconds)

    def wait_for_exit(self, seconds=PATIENCE_SECONDS):
        """Waits for the end; the exit code."""
        self.killed = True
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {seconds} s:\n{self.log_tail()}") from None
        self.stdout.wait_for_end()
        self.stderr.wait_for_end()
        return code

    def complaints(self):
        """Why this node must fail its test: it died by itself, or something in it panicked."""
        found = [line for line in self.stderr.lines if PANIC in line]
        code = self.process.poll()
        if code is not None and not self.killed:
            found.append(f"it ended by itself with {code}")
        return found

    def close(self):
        """Ends it whatever its state; returns what is to be complained about."""
        found = self.complaints()
        if self.process.poll() is None:
            code = self.stop()
            if code != 0:
                found.append(f"it stopped with {code} instead of 0")
        return found + [line for line in self.stderr.lines if PANIC in line and line not in found]


def _records(lines, fields):
    """The greeting of `up` shares standard output with the log; a record is a JSON object."""
    parsed = (json.loads(line) for line in lines if line.startswith("{"))
    return [record for record in parsed if fields.items() <= record.items()]


def run(*arguments, seconds=PATIENCE_SECONDS, **options):
    """Runs the binary to its end; returns exit code, standard output and standard error."""
    done = subprocess.run(
        [BINARY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr
