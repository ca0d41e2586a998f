"""Signature Version 4 in its header form, for requests that no SDK would send."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from .launch import ACCESS_KEY_ID, REGION, SECRET

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass
class Signed:
    """The fields of a signed request, and what the signatures of its chunks go on from."""

    fields: list
    key: bytes
    time: str
    scope: str
    previous: str

    def chunk(self, data):
        """A chunk with its signature; the empty one is the last."""
        signature = self._next("AWS4-HMAC-SHA256-PAYLOAD", _EMPTY, hashlib.sha256(data).hexdigest())
        return f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + b"\r\n"

    def trailer_signature(self, fields):
        """The signature over `(name, value)` pairs behind the last chunk."""
        canonical = "".join(f"{name}:{value}\n" for name, value in fields).encode()
        return self._next("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(canonical).hexdigest())

    def _next(self, algorithm, *hashes):
        text = "\n".join([algorithm, self.time, self.scope, self.previous, *hashes])
        self.previous = hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
        return self.previous


def sign(method, target, host, *, payload=UNSIGNED, fields=()):
    """Signs every field that is given; `target` is a path with its query, encoded as it is sent."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{time[:8]}/{REGION}/s3/aws4_request"
    own = [("x-amz-content-sha256", payload), ("x-amz-date", time)]
    covered = {}
    for name, value in [("host", host), *fields, *own]:
        covered.setdefault(name.lower(), []).append(value.strip())
    names = sorted(covered)
    parts = urlsplit(target)
    query = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in parse_qsl(parts.query, keep_blank_values=True))
    canonical = "\n".join(
        [
            method,
            parts.path,
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{','.join(covered[name])}" for name in names),
            "",
            ";".join(names),
            payload,
        ]
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashed])
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return Signed([*fields, *own, ("Authorization", authorization)], key, time, scope, signature)


def request(method, target, host, *, payload=UNSIGNED, fields=(), body=b"", unsigned=()):
    """The bytes of a signed request; `unsigned` fields come last. The length is said unless `unsigned` says one."""
    signed = sign(method, target, host, payload=payload, fields=fields)
    more = list(unsigned)
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in more):
        more.append(("Content-Length", str(len(body))))
    return head(method, target, host, signed.fields + more) + body


def head(method, target, host, fields):
    """The bytes of a request's head."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode()
