"""WeCom's callback envelope: every published vector, what must be refused, and that sealing is undone by opening."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.wecom_crypto import Envelope, EnvelopeError

FILE: Path = settings.BASE_DIR.parent / "shared" / "data" / "wecom_vectors.json"
if not FILE.exists() and not os.environ.get("CI"):
    pytest.skip("the vectors are not on this machine", allow_module_level=True)
VECTORS = json.loads(FILE.read_text("utf-8"))["vectors"]
WHOLE = [vector for vector in VECTORS if vector.get("msg_signature") and vector.get("encoding_aes_key")]
KEY = base64.b64encode(bytes(range(32))).decode().rstrip("=")
OURS = Envelope("token", KEY, "ww5823bf96d3bd56c7")


def envelope(vector: dict[str, Any]) -> Envelope:
    return Envelope(vector["token"], vector["encoding_aes_key"], vector["receive_id"] or "")


def opened(vector: dict[str, Any], **changes: str) -> bytes:
    given = {"signature": vector["msg_signature"], "timestamp": vector["timestamp"], "nonce": vector["nonce"]}
    return envelope(vector).open(**{**given, "ciphertext": vector["encrypt"], **changes})


def test_there_are_vectors() -> None:
    assert len(WHOLE) >= 14


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_published_signature_is_made_again(vector: dict[str, Any]) -> None:
    if vector.get("msg_signature"):
        signer = Envelope(vector["token"], "", "")
        assert signer.sign(vector["timestamp"], vector["nonce"], vector["encrypt"]) == vector["msg_signature"]


@pytest.mark.parametrize(
    "vector", [vector for vector in WHOLE if vector.get("receive_id") is not None], ids=lambda vector: vector["id"]
)
def test_a_published_vector_is_opened_and_sealed_again(vector: dict[str, Any]) -> None:
    message = opened(vector)
    if "expected_plaintext" in vector:
        assert message.decode() == vector["expected_plaintext"]
    if randomness := vector.get("random16_hex"):
        assert envelope(vector).seal(message, randomness=bytes.fromhex(randomness)) == vector["encrypt"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signature": "0" * 40}, -40001),
        ({"signature": "é"}, -40001),
        ({"nonce": "1"}, -40001),
        ({"timestamp": "1"}, -40001),
        ({"ciphertext": "AAAA"}, -40001),
    ],
)
def test_what_was_changed_on_the_way_is_refused_before_it_is_read(changes: dict[str, str], code: int) -> None:
    with pytest.raises(EnvelopeError) as refused:
        opened(WHOLE[0], **changes)
    assert refused.value.code == code


def test_a_message_for_another_receiver_is_refused() -> None:
    other = Envelope(OURS.token, KEY, "ww0000000000000000")
    assert refusal(other, OURS.seal(b"hello")) == -40005


@pytest.mark.parametrize("ciphertext", ["", "AAAA", "!!", base64.b64encode(bytes(64)).decode()])
def test_what_is_no_ciphertext_is_refused(ciphertext: str) -> None:
    assert refusal(OURS, ciphertext) == -40007


@pytest.mark.parametrize("key", ["", "short", KEY[:-1], KEY + "AAAA", "ключ" * 11])
def test_what_is_no_key_is_refused(key: str) -> None:
    assert refusal(Envelope("token", key, ""), OURS.seal(b"x")) == -40004


def refusal(receiver: Envelope, ciphertext: str) -> int:
    signature = receiver.sign("1", "2", ciphertext)
    with pytest.raises(EnvelopeError) as refused:
        receiver.open(signature=signature, timestamp="1", nonce="2", ciphertext=ciphertext)
    return refused.value.code


@given(message=st.binary(max_size=300), receive_id=st.text(alphabet="abcw0123", max_size=40))
def test_opening_undoes_sealing(message: bytes, receive_id: str) -> None:
    both = Envelope("token", KEY, receive_id)
    ciphertext = both.seal(message)
    signature = both.sign("1", "2", ciphertext)
    assert both.open(signature=signature, timestamp="1", nonce="2", ciphertext=ciphertext) == message
