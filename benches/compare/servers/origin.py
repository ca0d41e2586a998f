"""The two origins behind every server: files, and a body that never ends. Both run on the load generator's core."""

import sys
import urllib.request

from place import HERE, free_port, nginx_user, render
from servers.process import Process


class Origin(Process):
    """nginx with the objects, fast enough never to be what is waited for."""

    name = "origin"

    def __init__(self, place):
        super().__init__(place, place.load_core)
        self.plain_port = free_port()
        self.stream_port = free_port()
        self._status_port = free_port()
        self._asked = 0

    def start(self):
        self.folder = self.place.fresh_folder("origin")
        config = render(
            "origin.conf",
            self.folder / "nginx.conf",
            folder=self.folder,
            user=nginx_user(),
            plain=self.plain_port,
            status=self._status_port,
            objects=self.place.objects,
        )
        self.spawn(["nginx", "-e", self.folder / "error.log", "-c", config])
        self.wait_for_port(self.plain_port)
        self.spawn([sys.executable, HERE / "clients/stream_origin.py", self.stream_port])
        self.wait_for_port(self.stream_port)

    def requests(self):
        """How many requests it has had so far, these questions left out."""
        self.expect_running()
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status_port}/", timeout=10) as response:
            text = response.read().decode()
        self._asked += 1
        return int(text.splitlines()[2].split()[2]) - self._asked

    def zipf_log(self):
        """The log of the requests below /zipf/: target and length of the body."""
        return self.folder / "zipf.log"
