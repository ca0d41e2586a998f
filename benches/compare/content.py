"""The objects that the origin serves, and the certificates of the servers."""

import hashlib
import random
import subprocess

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Content:
    """Files under the origin's root, each made once from its name, and what their bytes must hash to."""

    def __init__(self, place):
        self._root = place.objects
        self._hashes = {}

    def make(self, target, size):
        """Makes sure that the object at `target` (such as /body/1KiB) exists with `size` bytes; returns its SHA-256."""
        known = self._hashes.get(target)
        if known:
            return known
        path = self._root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for part in parts_of(target, size):
                file.write(part)
                digest.update(part)
        self._hashes[target] = digest.hexdigest()
        return self._hashes[target]

    def part(self, target, first, length):
        """Bytes of an object that was made."""
        with (self._root / target.lstrip("/")).open("rb") as file:
            file.seek(first)
            return file.read(length)


def parts_of(name, size):
    """The bytes of an object: drawn from its name, so that two objects never have the same."""
    chooser = random.Random(name)
    while size > 0:
        part = chooser.randbytes(min(size, MIB))
        yield part
        size -= len(part)


def repeated_pattern(size):
    """The bytes of the endless object, as `clients/stream_origin.py` sends them: one MiB over and over."""
    (pattern,) = parts_of("stream", MIB)
    while size > 0:
        yield pattern[:size]
        size -= MIB


def make_certificates(place):
    """An authority and a P-256 certificate for 127.0.0.1, good for as long as a comparison may take."""
    folder = place.certificates
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    openssl("req", "-x509", *key, "-subj", "/CN=comparison authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(
        *["req", "-x509", *key, "-subj", "/CN=127.0.0.1", "-CA", "ca.pem", "-CAkey", "ca.key"],
        *["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
        *["-keyout", "site.key", "-out", "site.pem"],
    )
    whole = (folder / "site.pem").read_text() + (folder / "site.key").read_text()
    for secret in ("ca.key", "site.key", "site-and-key.pem"):
        (folder / secret).touch(mode=0o600)
        (folder / secret).chmod(0o600)
    (folder / "site-and-key.pem").write_text(whole)
