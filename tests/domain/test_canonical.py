import pytest

from workflows.domain.canonical import canonical_json, digest


def test_key_order_does_not_matter() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})


def test_every_value_matters() -> None:
    assert digest({"a": "1"}) != digest({"a": 1})


def test_chinese_is_kept_readable() -> None:
    assert canonical_json({"题": "群发"}) == '{"题":"群发"}'


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
