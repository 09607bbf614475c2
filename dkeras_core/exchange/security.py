"""Session security: who may talk to the server is decided by a 32-byte secret that only this job knows.

The driver makes the secret and Spark's own channel carries it to the executors. At the join each side proves to the
other that it holds the secret without sending it (challenge and response, HMAC-SHA256, RFC 2104), and both derive
keys for this one session from the secret and both nonces. Every later frame carries a tag made with the session key
of its direction and its number in the session, so no frame can be forged, replayed, left out or moved to another
session. Tags cover headers and control messages; vectors are not encrypted and not covered (TLS's work).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from dkeras_core.errors import ConfigError
from dkeras_core.exchange.frames import TAG_SIZE

SECRET_SIZE = 32
NONCE_SIZE = 32
PROOF_SIZE = 32
NO_TAG = bytes(TAG_SIZE)


def new_secret() -> bytes:
    """A fresh secret for one job."""
    return secrets.token_bytes(SECRET_SIZE)


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_SIZE)


def check_secret(secret: bytes) -> None:
    """Raise ConfigError unless ``secret`` is 32 bytes."""
    if not isinstance(secret, bytes) or len(secret) != SECRET_SIZE:
        raise ConfigError(f"the secret of a job is {SECRET_SIZE} bytes", "make it with exchange.new_secret()")


def server_proof(secret: bytes, transcript: bytes) -> bytes:
    return _derive(secret, b"dkeras exchange 1 server proof", transcript)


def client_proof(secret: bytes, transcript: bytes) -> bytes:
    return _derive(secret, b"dkeras exchange 1 client proof", transcript)


def session_keys(secret: bytes, transcript: bytes) -> tuple[bytes, bytes]:
    """The keys of one session: for frames to the server, and for frames to the client."""
    return (
        _derive(secret, b"dkeras exchange 1 key to server", transcript),
        _derive(secret, b"dkeras exchange 1 key to client", transcript),
    )


def same(left: bytes, right: bytes) -> bool:
    """Whether two proofs or tags are equal, in constant time."""
    return hmac.compare_digest(left, right)


def tag(key: bytes, number: int, header: bytes, payload: bytes | memoryview = b"") -> bytes:
    """The tag of frame ``number``: keyed BLAKE2s (RFC 7693), three times faster than an HMAC on so few bytes."""
    digest = hashlib.blake2s(number.to_bytes(8, "little"), key=key, digest_size=TAG_SIZE)
    digest.update(header)
    digest.update(payload)
    return digest.digest()


def _derive(secret: bytes, label: bytes, transcript: bytes) -> bytes:
    return hmac.digest(secret, label + b"\0" + transcript, "sha256")
