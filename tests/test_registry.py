from typing import ClassVar

import pytest

from workflows.registry import Registry, UnknownKind


class Adapter:
    kind: ClassVar[str] = "one"
    label: ClassVar[str] = "One"


def test_two_adapters_of_one_kind_are_refused() -> None:
    registry: Registry[Adapter] = Registry("thing")
    registry.register(Adapter)
    with pytest.raises(ValueError, match="two thing adapters are called 'one'"):
        registry.register(Adapter)


def test_an_unknown_kind_names_what_there_is() -> None:
    registry: Registry[Adapter] = Registry("thing")
    registry.register(Adapter)
    with pytest.raises(UnknownKind, match=r"no thing of kind 'two' is installed \(there are: one\)"):
        registry.get("two")
