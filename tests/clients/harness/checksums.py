"""The checksums of S3, computed by somebody other than the store."""

import base64
import hashlib
import zlib

from awscrt import checksums as crt

ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
# S3 combines CRCs over the parts of an object to one over the whole, and hashes the values of the others.
FULL_OBJECT = ("CRC32", "CRC32C", "CRC64NVME")
COMPOSITE = ("CRC32", "CRC32C", "SHA1", "SHA256")


def value(algorithm, data):
    """The bytes of a checksum, CRCs in network order."""
    match algorithm:
        case "CRC32":
            return zlib.crc32(data).to_bytes(4, "big")
        case "CRC32C":
            return crt.crc32c(data).to_bytes(4, "big")
        case "CRC64NVME":
            return crt.crc64nvme(data).to_bytes(8, "big")
        case "SHA1":
            return hashlib.sha1(data).digest()
        case "SHA256":
            return hashlib.sha256(data).digest()
    raise AssertionError(f"no algorithm {algorithm}")


def text(algorithm, data):
    """A checksum as it travels in a field."""
    return base64.b64encode(value(algorithm, data)).decode()


def composite(algorithm, parts):
    """The checksum of the parts' checksums, with their number."""
    joined = b"".join(value(algorithm, part) for part in parts)
    return f"{text(algorithm, joined)}-{len(parts)}"


def md5(data):
    """`Content-MD5`."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def etag(data):
    """The ETag of an object that came in one piece."""
    return f'"{hashlib.md5(data).hexdigest()}"'


def multipart_etag(parts):
    """The ETag of an object that was uploaded in these parts."""
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(joined).hexdigest()}-{len(parts)}"'
