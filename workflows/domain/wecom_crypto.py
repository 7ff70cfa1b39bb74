"""The envelope of WeCom's callbacks: signed with a token, encrypted with AES-256-CBC, addressed to one receiver.

signature = sha1 over the sorted token, timestamp, nonce and ciphertext. The plaintext is 16 random bytes, the length of
the message as four bytes, the message, and the receiver's id; it is padded to blocks of 32 bytes.
"""

import base64
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_RANDOM = 16
_HEAD = _RANDOM + 4
_BLOCK_BITS = 32 * 8


class EnvelopeError(ValueError):
    """The envelope cannot be trusted or read. ``code`` is WeCom's own: -40001 signature, -40004 key, -40005 receiver,
    -40007 ciphertext."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Envelope:
    """What both sides know. ``receive_id`` is the corp id of an application, "" for an intelligent robot."""

    token: str
    aes_key: str
    receive_id: str

    def sign(self, timestamp: str, nonce: str, ciphertext: str) -> str:
        parts = sorted([self.token, timestamp, nonce, ciphertext])
        return hashlib.sha1("".join(parts).encode(), usedforsecurity=False).hexdigest()

    def open(self, *, signature: str, timestamp: str, nonce: str, ciphertext: str) -> bytes:
        """The message. The signature is judged first, in constant time. Raises EnvelopeError."""
        expected = self.sign(timestamp, nonce, ciphertext)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise EnvelopeError(-40001, "the signature does not match")
        plain = self._decrypted(ciphertext)
        (length,) = struct.unpack(">I", plain[_RANDOM:_HEAD])
        message, receiver = plain[_HEAD : _HEAD + length], plain[_HEAD + length :]
        if len(message) != length:
            raise EnvelopeError(-40007, "the message is shorter than it says")
        if not hmac.compare_digest(receiver, self.receive_id.encode()):
            raise EnvelopeError(-40005, "the message is for another receiver")
        return message

    def seal(self, message: bytes, *, randomness: bytes | None = None) -> str:
        """The ciphertext of a message. ``randomness``: 16 bytes, for known answers only."""
        head = (randomness or os.urandom(_RANDOM)) + struct.pack(">I", len(message))
        padder = padding.PKCS7(_BLOCK_BITS).padder()
        padded = padder.update(head + message + self.receive_id.encode()) + padder.finalize()
        encryptor = self._cipher().encryptor()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()

    def _decrypted(self, ciphertext: str) -> bytes:
        decryptor = self._cipher().decryptor()
        try:
            raw = base64.b64decode(ciphertext, validate=True)
            padded = decryptor.update(raw) + decryptor.finalize()
            unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
            plain = unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise EnvelopeError(-40007, "the ciphertext cannot be decrypted") from error
        if len(plain) < _HEAD:
            raise EnvelopeError(-40007, "the plaintext is too short")
        return plain

    def _cipher(self) -> Cipher[modes.CBC]:
        # Real keys end with bits that no encoder would write, so nothing is compared with a key encoded again.
        try:
            key = base64.b64decode(f"{self.aes_key}=", validate=True)
        except ValueError as error:
            raise EnvelopeError(-40004, "the EncodingAESKey is none") from error
        if len(key) != 32:
            raise EnvelopeError(-40004, "the EncodingAESKey is none")
        return Cipher(algorithms.AES(key), modes.CBC(key[:16]))
