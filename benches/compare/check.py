"""Whether a server's answers are right, before anything is measured: status, protocol, bytes."""

import hashlib
import subprocess

from place import CompareError

# As config/client-openssl.cnf asks for.
TLS = ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519")

PROTOCOLS = {"h1": ("--http1.1", "1.1"), "h2": ("--http2", "2")}


def fetch(place, url, *, protocol="h1", byte_range=None):
    """Asks once with curl and reads the whole body; returns status, length and SHA-256 of the body."""
    option, version = PROTOCOLS[protocol]
    words = ["curl", "--silent", "--show-error", option, "--cacert", place.certificates / "ca.pem"]
    words += ["--write-out", "%{stderr}%{http_code} %{http_version}", "--max-time", "300"]
    if byte_range:
        words += ["--range", byte_range]
    digest, length = hashlib.sha256(), 0
    command = place.pinned([place.load_core], [*words, url])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while part := process.stdout.read(1 << 20):
            digest.update(part)
            length += len(part)
        said = process.stderr.read().decode()
    if process.returncode:
        raise CompareError(f"curl {url} ended with {process.returncode}: {said}")
    status, spoken = said.split()[-2:]
    if spoken != version:
        raise CompareError(f"{url} was answered in HTTP/{spoken} instead of HTTP/{version}")
    return int(status), length, digest.hexdigest()


def expect(place, url, size, sha256, *, status=200, **options):
    """The answer has these bytes."""
    found = fetch(place, url, **options)
    wanted = (status, size, sha256)
    if found != wanted:
        raise CompareError(f"{url} answered {found} instead of {wanted}")


def expect_tls(bench, server):
    """A client of the comparison gets the version, cipher suite and curve that all are to be measured with."""
    words = ["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{server.tls_port}"]
    said = bench.generator.run(words, 10)
    for wanted in TLS:
        if wanted not in said:
            raise CompareError(f"{server.name} does not speak {wanted}:\n{said}\n{server.log_tail()}")
