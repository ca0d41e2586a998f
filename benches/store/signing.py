"""Presigned URLs of AWS Signature Version 4, many in little time: a load generator cannot sign."""

import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass, field
from datetime import datetime, timezone

EXPIRES_SECONDS = 86_400


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


@dataclass
class Signer:
    """Signs for one host with one key, at the time that it was made."""

    host: str
    access_key_id: str
    secret: str
    region: str
    _now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self):
        day = f"{self._now:%Y%m%d}"
        self._time = f"{self._now:%Y%m%dT%H%M%SZ}"
        self._scope = f"{day}/{self.region}/s3/aws4_request"
        key = f"AWS4{self.secret}".encode()
        for text in (day, self.region, "s3", "aws4_request"):
            key = _hmac(key, text)
        self._key = key
        self._parameters = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key_id}/{self._scope}",
            "X-Amz-Date": self._time,
            "X-Amz-Expires": str(EXPIRES_SECONDS),
            "X-Amz-SignedHeaders": "host",
        }

    def target(self, method, path, query=None):
        """Path and query of a URL for `method`; `path` and the query need no more encoding than quote gives."""
        pairs = sorted({**self._parameters, **(query or {})}.items())
        text = "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in pairs)
        canonical = f"{method}\n{path}\n{text}\nhost:{self.host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{self._time}\n{self._scope}\n{digest}"
        signature = hmac.new(self._key, to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{path}?{text}&X-Amz-Signature={signature}"
