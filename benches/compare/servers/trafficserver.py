"""Apache Traffic Server: one event thread, from a root folder of its own."""

import subprocess

from place import HERE, render
from servers.process import Server

# It keeps a directory and a header beside the objects, and refuses less than this.
LEAST_STORAGE_BYTES = 128 << 20


class TrafficServer(Server):
    name = "Traffic Server"
    cannot = {
        "workers": "it is set up for one thread",
        "signed": "the plugin url_sig is configured by address and not comparable",
    }

    @classmethod
    def version_command(cls, place):
        return ["traffic_server", "--version"]

    def launch(self, setup):
        for name in ("etc", "var", "run", "log", "cache"):
            (self.folder / name).mkdir()
        values = {
            "folder": self.folder,
            "libraries": _libraries(),
            "plain": self.plain_port,
            "tls": self.tls_port,
            "origin": self.origin.plain_port,
            "stream": self.origin.stream_port,
            "ram_bytes": setup.memory_bytes,
            "storage_bytes": max(setup.disk_bytes or setup.memory_bytes, LEAST_STORAGE_BYTES),
            "certificates": self.place.certificates,
            "logging": 2 if setup.access_log else 0,
        }
        for template in (HERE / "config/trafficserver").iterdir():
            folder = self.folder if template.name == "runroot.yaml" else self.folder / "etc"
            render(f"trafficserver/{template.name}", folder / template.name, **values)
        self.spawn(["traffic_server", f"--run-root={self.folder}/runroot.yaml"])


def _libraries():
    """Where this distribution keeps its libraries and modules."""
    done = subprocess.run(["traffic_layout", "info"], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LIBDIR:")]
    return line.split()[1]
