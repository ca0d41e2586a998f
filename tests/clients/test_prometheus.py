"""A real Prometheus scrapes the admin surface; two divisions in PromQL give both hit ratios.

SEED replays a run.
"""

import json
import os
import random
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest

from harness import s3
from harness.curl import curl
from harness.node import Output
from harness.ports import free_port
from harness.s3 import KIB, MIB
from harness.waiting import poll

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
REQUESTS = 120

REQUEST_HIT_RATIO = 'sum(tidegate_requests_total{outcome="hit"}) / sum(tidegate_requests_total)'
BYTE_HIT_RATIO = (
    'sum(tidegate_response_bytes_total{source=~"memory|disk"}) / sum(tidegate_response_bytes_total)'
)


class Prometheus:
    """A server of its own that scrapes one node every second."""

    def __init__(self, folder, target):
        binary = shutil.which("prometheus")
        assert binary, "prometheus is missing: make deps"
        self.address = f"127.0.0.1:{free_port()}"
        configuration = folder / "prometheus.yaml"
        job = {
            "job_name": "tidegate",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [target]}],
        }
        configuration.write_text(json.dumps({"scrape_configs": [job]}))
        self.process = subprocess.Popen(
            [
                binary,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = Output(self.process.stderr)
        ready = self.log.wait_for(lambda lines: any("ready to receive" in line for line in lines))
        assert ready, "\n".join(self.log.lines)

    def ask(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def scalar(self, query):
        """The value of a query that gives one."""
        result = self.ask("query", query=query)["result"]
        assert len(result) == 1, f"{query}: {result}"
        return float(result[0]["value"][1])

    def target(self):
        (target,) = self.ask("targets")["activeTargets"] or [None]
        return target

    def wait_for_scrape(self):
        """Waits until a scrape has begun and ended after this call: two more than those so far."""

        def scrapes():
            return self.ask("query", query="count_over_time(up[1h])")["result"]

        before = int(found[0]["value"][1]) if (found := scrapes()) else 0
        poll(
            lambda: (found := scrapes()) and int(found[0]["value"][1]) >= before + 2,
            "Prometheus has scraped",
        )

    def close(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def prometheus(node, tmp_path):
    prometheus = Prometheus(tmp_path, node.admin)
    yield prometheus
    prometheus.close()


def test_two_divisions_equal_the_clients_own_count(node, prometheus):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    client = s3.client(node.s3)
    sizes = {f"object-{number}": chance.choice([0, 1, 900, 70 * KIB, MIB + 1]) for number in range(12)}
    for key, size in sizes.items():
        client.put_object(Bucket="suite", Key=key, Body=s3.content(size, key))

    # The client's own idea of the cache: an object is there once it has been read, always whole at first.
    stored = set()
    count = {"requests": 0, "hits": 0, "bytes": 0, "hit bytes": 0}
    for _ in range(REQUESTS):
        key = chance.choice(list(sizes))
        size = sizes[key]
        kind = chance.choice(["whole", "whole", "range", "unchanged", "head", "refused"])
        if key not in stored and kind != "refused":
            kind = "whole"
        if not size and kind == "range":
            kind = "whole"
        method = "head_object" if kind == "head" else "get_object"
        url = s3.presign(node.http, "suite", key, method=method)
        arguments, status, length = {
            "whole": ([], 200, size),
            "range": (["--range", f"{size // 2}-"], 206, size - size // 2),
            "unchanged": (["--header", "If-None-Match: *"], 304, 0),
            "head": (["--head"], 200, 0),
            # Its error document is no object's byte, so neither side of the ratio counts it.
            "refused": (["--header", "x-amz-acl: unsigned"], 403, 0),
        }[kind]
        reply = curl(url, *arguments)
        is_hit = kind != "refused" and key in stored
        assert (reply.status, reply.is_hit) == (status, is_hit), kind
        assert kind == "refused" or reply.report["size_download"] == length, kind
        count["requests"] += 1
        count["hits"] += is_hit
        count["bytes"] += length
        count["hit bytes"] += length if is_hit else 0
        if kind != "refused":
            stored.add(key)
    node.wait_for_records(REQUESTS)
    prometheus.wait_for_scrape()
    print(f"{count}")
    assert 0 < count["hits"] < count["requests"] and 0 < count["hit bytes"] < count["bytes"]
    assert prometheus.scalar("sum(tidegate_requests_total)") == count["requests"]
    assert prometheus.scalar("sum(tidegate_response_bytes_total)") == count["bytes"]
    request_ratio, byte_ratio = prometheus.scalar(REQUEST_HIT_RATIO), prometheus.scalar(BYTE_HIT_RATIO)
    print(f"request hit ratio {request_ratio:.4f}, byte hit ratio {byte_ratio:.4f}")
    assert request_ratio == count["hits"] / count["requests"]
    assert byte_ratio == count["hit bytes"] / count["bytes"]


def test_every_metric_that_is_promised_is_scraped_without_an_error(node, prometheus):
    url = s3.presign(node.http, "suite", "promised")
    s3.client(node.s3).put_object(Bucket="suite", Key="promised", Body=b"p" * 1000)
    for _ in range(2):
        assert curl(url).status == 200
    node.wait_for_records(2, path="/suite/promised")
    prometheus.wait_for_scrape()
    assert prometheus.target()["lastError"] == ""
    for query in [
        "tidegate_build_info",
        "sum(tidegate_request_duration_seconds_count)",
        "sum(tidegate_time_to_first_byte_seconds_count)",
        'sum(tidegate_origin_requests_total{origin="store",result="2xx"})',
        "sum(tidegate_origin_request_duration_seconds_count)",
        'tidegate_origin_healthy{origin="store"}',
        'tidegate_cache_bytes{tier="memory"}',
        'tidegate_cache_objects{tier="memory"}',
        'tidegate_cache_limit_bytes{tier="memory"}',
        "process_resident_memory_bytes",
        "process_open_fds",
    ]:
        assert prometheus.scalar(query) > 0, query
    assert prometheus.scalar('tidegate_cache_limit_bytes{tier="memory"}') == 256 * MIB


def test_promtool_has_nothing_to_say_against_the_names(node):
    """promtool comes with the server; it knows the naming rules."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=node.ask_admin("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
