"""Tidegate, from the binary that is named on the command line."""

import subprocess
import urllib.request
from urllib.parse import urlsplit

from place import free_port, render
from servers.process import Server


class Tidegate(Server):
    name = "Tidegate"

    @classmethod
    def version_command(cls, place):
        return [place.tidegate, "--version"]

    def launch(self, setup):
        certificates = self.place.certificates
        cache = f"{{ memory: {setup.memory_bytes}B }}"
        if setup.disk_bytes:
            disk = f"{{ path: {self.folder}/cache, size: {setup.disk_bytes}B }}"
            cache = f"{{ memory: {setup.memory_bytes}B, disk: {disk} }}"
        self._admin_port = free_port()
        self._secret = self.folder / "signing.key"
        self._secret.touch(mode=0o600)
        self._secret.write_text("comparison\n")
        config = render(
            "tidegate.yaml",
            self.folder / "tidegate.yaml",
            workers=setup.workers,
            admin=self._admin_port,
            access_log=self.folder / "access.log" if setup.access_log else "off",
            plain=self.plain_port,
            tls=self.tls_port,
            chain=certificates / "site.pem",
            key=certificates / "site.key",
            origin=self.origin.plain_port,
            stream=self.origin.stream_port,
            cache=cache,
            signing_secret_file=self._secret,
        )
        self.spawn([self.place.tidegate, "edge", "--config", config])

    def signed_target(self, target):
        done = subprocess.run(
            [self.place.tidegate, "sign", "--host", f"127.0.0.1:{self.tls_port}", "--scheme", "https"]
            + ["--expires", "1d", "--key-id", "compare", "--secret-file", self._secret, target],
            capture_output=True,
            text=True,
            check=True,
        )
        url = urlsplit(done.stdout.strip())
        return f"{url.path}?{url.query}"

    def more(self):
        """Bytes of bodies by the tier that they came from, so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        sums = {}
        for line in lines:
            if line.startswith("tidegate_response_bytes_total{"):
                source = line.split('source="')[1].split('"')[0]
                sums[f"{source}_bytes"] = sums.get(f"{source}_bytes", 0) + int(float(line.rsplit(" ", 1)[1]))
        return sums
