"""The comparison with other caches (benches/compare) in its quick form: everything in it still works.

Nothing here depends on how fast anything was.
"""

import json
import subprocess
import sys

import pytest

from harness.node import BINARY, REPOSITORY

COMPARE = REPOSITORY / "benches/compare"
# nginx and Tidegate can do everything that is asked for.
SERVERS = ["Tidegate", "nginx"]
# Less than a minute where nothing else is going on.
PATIENCE_SECONDS = 300.0
GROUPS = "h1 https h2 presigned handshake tail log workers disk range miss zipf idle stream".split()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the quick form wrote."""
    folder = tmp_path_factory.mktemp("compare")
    command = [sys.executable, COMPARE, "--quick", "--tidegate", BINARY, "--folder", folder]
    command += ["--servers", ",".join(SERVERS), "--json", folder / "report.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as compare:
        try:
            table, log = compare.communicate(timeout=PATIENCE_SECONDS)
        finally:
            # It stops its servers, which would otherwise stay, held still.
            compare.terminate()
    print(table)
    assert (folder / "report.json").exists(), log
    report = json.loads((folder / "report.json").read_text())
    failed = {row["scenario"]: row["failed"] for row in report["scenarios"] if row["failed"]}
    assert (compare.returncode, failed) == (0, {}), log
    return report


def test_every_scenario_ran_against_every_server(report):
    """A run whose answers were not complete, or whose bytes were not right, is a failed one."""
    assert list(dict.fromkeys(row["group"] for row in report["scenarios"])) == GROUPS
    for row in report["scenarios"]:
        assert row["left_out"] == {}, row["scenario"]
        assert sorted(row["servers"]) == sorted(SERVERS), row["scenario"]
        for server in row["servers"].values():
            assert [run["requests"] > 0 and run["cpu_ns"] > 0 for run in server["rounds"]] == [True], row["scenario"]


def test_the_report_says_what_was_measured_and_where(report):
    assert report["quick"] is True
    assert sorted(report["versions"]) == sorted(SERVERS)
    unknown = [name for name, value in report["machine"].items() if value in (None, "", "missing", "unknown")]
    assert unknown == []
    assert "--quick" in report["command"]


def test_a_run_with_wrong_bytes_fails():
    """The comparison would notice: an answer that is not what the origin holds is an error, not a figure."""
    wrong = [sys.executable, "-c", WRONG_BYTES]
    done = subprocess.run(wrong, cwd=COMPARE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


WRONG_BYTES = """
import http.server, sys, threading
from pathlib import Path
sys.path.insert(0, ".")
import check
from place import CompareError, Place

class Wrong(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"mine")

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
threading.Thread(target=server.serve_forever, daemon=True).start()
place = Place(Path("."), Path("."), None, None)
url = f"http://127.0.0.1:{server.server_port}/"
status, size, right = check.fetch(place, url)
check.expect(place, url, size, right)
for wrong in [(size + 1, right), (size, "0" * 64)]:
    try:
        check.expect(place, url, *wrong)
    except CompareError:
        continue
    sys.exit("wrong bytes passed")
"""
