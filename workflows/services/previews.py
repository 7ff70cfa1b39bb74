"""How words will look on every kind of channel, before anybody sends them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workflows import channels
from workflows.domain.content import Content, Part
from workflows.domain.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one kind of channel makes of it; ``problem`` says why it cannot."""

    label: Any
    parts: Sequence[Part] = ()
    problem: str = ""

    @property
    def bytes(self) -> int:
        return sum(len(part.text.encode()) for part in self.parts)


def looks(content: Content) -> Iterator[Look]:
    """As each kind shows it where nothing else is configured."""
    for adapter in channels.registry:
        config = {name: field.initial or "" for name, field in adapter.config_form().fields.items()}
        try:
            yield Look(label=adapter.label, parts=adapter.render(content, config))
        except Invalid as error:
            yield Look(label=adapter.label, problem=str(error))
