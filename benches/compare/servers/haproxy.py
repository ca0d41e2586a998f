"""HAProxy: its cache holds whole responses in one block of shared memory."""

from place import CompareError, raise_open_files, render
from servers.process import Server

MIB = 1 << 20
# haproxy refuses more.
LARGEST_CACHE_MIB = 4095


class Haproxy(Server):
    name = "HAProxy"
    cannot = {
        "disk": "HAProxy's cache is in memory only",
        "ranges": "HAProxy's cache ignores ranges",
        "signed": "HAProxy has no signed URLs",
    }

    @classmethod
    def version_command(cls, place):
        return ["haproxy", "-v"]

    def launch(self, setup):
        mib = setup.memory_bytes // MIB
        if mib > LARGEST_CACHE_MIB:
            raise CompareError(f"HAProxy's cache cannot hold {mib} MiB")
        certificates = self.place.certificates
        config = render(
            "haproxy.cfg",
            self.folder / "haproxy.cfg",
            threads=setup.workers,
            # Its log goes line by line; it has no buffered file.
            log_target="log stdout len 1024 format raw local0" if setup.access_log else "",
            log_option="log global\n    option httplog" if setup.access_log else "",
            # It wants two files for each connection.
            connections=min(12_000, (raise_open_files() - 200) // 2),
            cache_mib=mib,
            largest_bytes=min(12, mib // 2) * MIB,
            plain=self.plain_port,
            tls=self.tls_port,
            certificate=certificates / "site-and-key.pem",
            origin=self.origin.plain_port,
            stream=self.origin.stream_port,
        )
        self.spawn(["haproxy", "-db", "-f", config])
