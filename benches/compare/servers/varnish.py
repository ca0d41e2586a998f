"""Varnish: one thread pool on one core, storage in memory or in a file. It has no TLS."""

from place import render
from servers.process import Server

NO_TLS = "Varnish has no TLS of its own"


class Varnish(Server):
    name = "Varnish"
    cannot = {
        "https": NO_TLS,
        "h2": NO_TLS,
        "signed": NO_TLS,
        "workers": "Varnish has pools of threads and no workers",
    }

    @classmethod
    def version_command(cls, place):
        return ["varnishd", "-V"]

    def launch(self, setup):
        config = render(
            "varnish.vcl", self.folder / "compare.vcl", origin=self.origin.plain_port, stream=self.origin.stream_port
        )
        storage = f"malloc,{setup.memory_bytes}"
        if setup.disk_bytes:
            storage = f"file,{self.folder}/storage,{setup.disk_bytes}"
        work = self.folder / "work"
        parameters = {
            "thread_pools": 1,
            # The manager would take a cache that was held still for a dead one.
            "ping_interval": 0,
            "timeout_idle": 3600,
            "listen_depth": 4096,
        }
        words = ["varnishd", "-F", "-j", "none", "-n", work, "-a", f"127.0.0.1:{self.plain_port}", "-f", config]
        words += ["-s", storage, "-T", "none"]
        words += [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
        self.spawn(words)
        if setup.access_log:
            self.wait_for_port(self.plain_port)
            self.spawn(["varnishncsa", "-n", work, "-w", self.folder / "access.log", "-t", "10"])
