"""The keys that sign seals: Ed25519, kept in the secret store, the newest first.

A key that was rotated away stays, so that its seals can be verified; only the first signs. The database never sees one,
so whoever owns the database alone cannot make a seal.
"""

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit import proof
from compliance_bot.guardrails import secrets

_NAME = "audit-seal-keys"
_STORE = "local"


def signing_key() -> Ed25519PrivateKey:
    """The key in use; made on first use."""
    return (_stored() or [rotate()])[0]


def rotate() -> Ed25519PrivateKey:
    """Put a new key into use. Seals of the earlier ones stay verifiable."""
    keys = [Ed25519PrivateKey.generate(), *_stored()]
    lines = [base64.b64encode(key.private_bytes_raw()).decode("ascii") for key in keys]
    secrets.get(_STORE).write(_NAME, "\n".join(lines))
    return keys[0]


def public_keys() -> dict[str, Ed25519PublicKey]:
    """By key id, every key that ever signed."""
    return {key_id(key.public_key()): key.public_key() for key in _stored()}


def key_id(key: Ed25519PublicKey) -> str:
    return proof.key_id(key.public_bytes_raw())


def pem(key: Ed25519PublicKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode("ascii")


def _stored() -> list[Ed25519PrivateKey]:
    try:
        lines = secrets.get(_STORE).read(_NAME).split("\n")
    except secrets.SecretMissing:
        return []
    return [Ed25519PrivateKey.from_private_bytes(base64.b64decode(line)) for line in lines]
