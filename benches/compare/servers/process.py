"""A server as a tree of processes: started, stopped, held still, weighed."""

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass

import measure
from place import CompareError, free_port, wait_until


@dataclass(frozen=True)
class Setup:
    """What a group of scenarios needs from every server. `disk_bytes` 0: a memory tier is all that is asked for.
    More `workers` than one run on the server's core and on the clients'."""

    name: str
    memory_bytes: int
    disk_bytes: int = 0
    access_log: bool = False
    workers: int = 1


class Process:
    """One program and whatever it starts itself, in a folder of its own and on the cores that are given; on any when
    one of them is None."""

    name = None

    def __init__(self, place, *cores):
        self.place = place
        self._cores = cores
        self._processes = []
        self._logs = []
        self.folder = None

    @classmethod
    def version(cls, place):
        """The first line of what the program says of itself, or None when it is not installed."""
        try:
            done = subprocess.run(cls.version_command(place), capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return (done.stdout + done.stderr).strip().splitlines()[0]

    @classmethod
    def version_command(cls, place):
        raise NotImplementedError

    def spawn(self, command, output="output.log", environment=None):
        """Starts one program of this server; its output goes to a file of the folder."""
        log = self.folder / output
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.place.pinned(self._cores, command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
            )
        self._processes.append(process)
        self._logs.append(log)
        return process

    def wait_for_port(self, port):
        """Waits until somebody accepts connections there."""

        def accepts():
            self.expect_running()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(accepts, f"{self.name} accepts connections on port {port}")

    def expect_running(self):
        """None of its programs has ended by itself."""
        for process in self._processes:
            if process.poll() is not None:
                raise CompareError(f"{self.name} ended with {process.returncode}:\n{self.log_tail()}")

    def log_tail(self, lines=20):
        text = "\n".join(log.read_text(errors="replace") for log in self._logs)
        return "\n".join(text.splitlines()[-lines:])

    def pids(self):
        """All its processes."""
        return [
            pid for process in self._processes if process.poll() is None for pid in measure.descendants(process.pid)
        ]

    def pause(self):
        """Holds it still: it keeps its memory and its connections and takes no time of the core."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                # A helper that ended by itself.
                continue

    def stop(self):
        """Ends all of it and waits."""
        self.resume()
        children = set(self.pids()) - {process.pid for process in self._processes}
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._processes.clear()
        self._logs.clear()


class Server(Process):
    """A cache that takes part in the comparison.

    `cannot` says, for each thing that scenarios may need, why this server is left out of them.
    """

    cannot = {}

    def __init__(self, place, origin):
        super().__init__(place, place.server_core)
        self.origin = origin
        self.plain_port = free_port()
        self.tls_port = free_port()
        self.setup = None

    def start(self, setup):
        """Starts it with an empty cache."""
        self.setup = setup
        if setup.workers > 1:
            self._cores = (self.place.server_core, self.place.load_core)
        self.folder = self.place.fresh_folder(f"{self.name}-{setup.name}".replace(" ", ""))
        self.launch(setup)
        self.wait_for_port(self.plain_port)
        self._pin_threads()

    def stop(self):
        """As for every process; what it cached goes too, logs and configuration stay."""
        super().stop()
        if self.folder:
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
            (self.folder / "storage").unlink(missing_ok=True)

    def _pin_threads(self):
        """Traffic Server spreads its threads over the machine whatever it was started on, so all are bound again."""
        if None in self._cores:
            return
        for pid in self.pids():
            for thread in os.listdir(f"/proc/{pid}/task"):
                try:
                    os.sched_setaffinity(int(thread), self._cores)
                except ProcessLookupError:
                    # It has ended since it was listed.
                    continue

    def launch(self, setup):
        """Writes its configuration and spawns its programs."""
        raise NotImplementedError

    def url(self, scheme, target):
        port = self.tls_port if scheme == "https" else self.plain_port
        return f"{scheme}://127.0.0.1:{port}{target}"

    def signed_target(self, target):
        """Path and query of a presigned URL for `target` on the TLS listener."""
        raise NotImplementedError

    def held_bytes(self):
        """What its cache takes on disk now, or None where that cannot be seen from outside."""
        return None

    def more(self):
        """Figures that only this server has, for the log."""
        return {}
