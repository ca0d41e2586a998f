"""curl, with what it received taken apart."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Stands between the two parts of the report and in neither of them.
_SEPARATOR = "\x1e"


@dataclass
class Reply:
    """The last response of a transfer."""

    status: int
    # As curl writes it: 1.1 or 2.
    version: str
    # By lower-case name; fields that came more than once are joined with a comma.
    fields: dict
    body: bytes
    # Everything else that curl can tell (`--write-out '%{json}'`).
    report: dict

    @property
    def cache_status(self):
        return self.fields.get("cache-status", "")

    @property
    def is_hit(self):
        return self.cache_status.startswith("tidegate; hit")


def curl(url, *arguments, ca=None, output=None, exit_code=0, seconds=120):
    """Fetches `url`; the body goes to the file `output` when given and is then not in the reply."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(output) if output else Path(folder, "body")
        command = ["curl", "--silent", "--show-error", "--max-time", str(seconds), "--output", str(body)]
        command += ["--write-out", "%{json}" + _SEPARATOR + "%{header_json}"]
        if ca:
            command += ["--cacert", str(ca)]
        command += [*map(str, arguments), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, (
            f"curl ended with {done.returncode}, expected {exit_code}: {done.stderr}\n{' '.join(command)}"
        )
        report, fields = done.stdout.split(_SEPARATOR)
        report = json.loads(report)
        received = b"" if output or not body.exists() else body.read_bytes()
    fields = {name: ", ".join(values) for name, values in json.loads(fields).items()}
    return Reply(report["http_code"], report["http_version"], fields, received, report)
