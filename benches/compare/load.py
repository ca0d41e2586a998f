"""The load generators, wrk for HTTP/1.1 and h2load for HTTP/2 and for constant rates."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

from place import HERE, CompareError

# h2load asks for another one whatever config/client-openssl.cnf says.
TLS_SUITE = "TLS_AES_256_GCM_SHA384"

# Nothing in a run takes longer than this beyond its own length.
PATIENCE_SECONDS = 60.0

NOTHING_YET = 'COMPARE {"requests": 0, "failed": 0}'
LONGEST_WITHOUT_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Load:
    """What a generator saw. `requests` are complete responses, times are in microseconds."""

    requests: int
    bytes: int
    seconds: float
    p50_us: float
    p99_us: float


class Generator:
    """Starts clients on the load generator's core, all with the same TLS settings."""

    def __init__(self, place):
        self._place = place
        self._environment = {
            **os.environ,
            "COMPARE_LUA": str(HERE / "lua"),
            "OPENSSL_CONF": str(HERE / "config/client-openssl.cnf"),
            "SSL_CERT_FILE": str(place.certificates / "ca.pem"),
        }

    def command(self, words):
        return self._place.pinned([self._place.load_core], words)

    def start(self, words, **options):
        return subprocess.Popen(
            self.command(words), env=self._environment, stdin=subprocess.DEVNULL, text=True, **options
        )

    def run(self, words, seconds):
        """Runs a client to its end; returns what it printed."""
        process = self.start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=seconds + PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise CompareError(f"{words[0]} did not end:\n{process.communicate()[0][-2000:]}") from None
        if process.returncode:
            raise CompareError(f"{words[0]} ended with {process.returncode}:\n{output[-2000:]}")
        return output

    def client(self, name, *arguments, seconds):
        """Runs one of our own clients; it prints one JSON object."""
        return json.loads(self.run([sys.executable, HERE / "clients" / name, *arguments], seconds))

    def wrk(self, url, connections, seconds, script="one.lua", arguments=()):
        """HTTP/1.1 with keep-alive connections, each asking again as soon as it has its answer."""
        command = _wrk_command(url, connections, math.ceil(seconds), script, arguments)
        report = _wrk_report(self._interrupted(command, lambda process: _wait(process, seconds)))
        if not report["requests"]:
            # On a machine that is busy with other things a very short run may end before the first answer.
            if seconds > LONGEST_WITHOUT_ANSWER_SECONDS:
                raise CompareError(f"{url} did not answer within {seconds:.1f} s")
            return self.wrk(url, connections, 2 * seconds, script, arguments)
        return _wrk_load(report)

    def wrk_until(self, url, connections, script, arguments, until):
        """The same, ended when `until(process)` returns."""
        command = _wrk_command(url, connections, 3600, script, arguments)
        return _wrk_load(_wrk_report(self._interrupted(command, until)))

    def _interrupted(self, command, until):
        """Runs a client that reports when it is interrupted; returns what it printed."""
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            until(process)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise CompareError(f"{command[0]} did not end") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode == -signal.SIGINT:
            # It was not yet ready to report.
            return NOTHING_YET
        return output

    def h2load(self, url, connections, streams, requests, log, *, h1=False, rate=None):
        """HTTP/2, or HTTP/1.1 with `h1`; at `rate` requests per second, or as fast as answers come.

        A number of requests and no time, so that none is cut off in the middle and every one that the server paid for
        is counted. `log` is a file for the time of each request, from which the quantiles are taken.
        """
        log.unlink(missing_ok=True)
        words = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-n{requests}"]
        words += [f"--tls13-ciphers={TLS_SUITE}", "--groups=X25519", f"--log-file={log}"]
        if h1:
            words.append("--h1")
        if rate:
            words.append(f"--rps={rate / connections:.3f}")
        output = self.run([*words, url], requests / rate if rate else 60.0)
        counts = re.search(
            r"^requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
            output,
            re.MULTILINE,
        )
        traffic = re.search(r"^traffic: .*\((\d+)\) total", output, re.MULTILINE)
        spent = re.search(r"^finished in ([\d.]+)(us|ms|s)", output, re.MULTILINE)
        if not (counts and traffic and spent):
            raise CompareError(f"h2load reported nothing:\n{output[-2000:]}")
        done, succeeded, failed, errored, late = map(int, counts.groups())
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines() if line.count("\t") == 2)
        if not done or succeeded != done or failed or errored or late or not times:
            raise CompareError(f"h2load counted failures:\n{output[-2000:]}")
        log.unlink()
        return Load(
            requests=done,
            bytes=int(traffic.group(1)),
            seconds=float(spent.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[spent.group(2)],
            p50_us=times[len(times) // 2],
            p99_us=times[len(times) * 99 // 100],
        )


def _wrk_command(url, connections, seconds, script, arguments):
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    return [*words, "-s", HERE / "lua" / script, url, "--", *arguments]


def _wait(process, seconds):
    """Until it ends by itself or the time is up: wrk itself counts whole seconds only."""
    try:
        process.wait(seconds if seconds < math.ceil(seconds) else seconds + PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        # Now it is interrupted.
        return


def _wrk_report(output):
    found = re.search(r"^COMPARE (.*)$", output, re.MULTILINE)
    if not found:
        raise CompareError(f"wrk reported nothing:\n{output[-2000:]}")
    report = json.loads(found.group(1))
    if report["failed"]:
        raise CompareError(f"wrk counted {report['failed']} failures in {report['requests']} requests")
    return report


def _wrk_load(report):
    if not report["requests"]:
        raise CompareError("wrk had no answer")
    return Load(
        requests=report["requests"],
        bytes=report["bytes"],
        seconds=report["duration_us"] / 1e6,
        p50_us=report["p50_us"],
        p99_us=report["p99_us"],
    )
