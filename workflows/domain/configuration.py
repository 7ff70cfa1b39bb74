"""Two configurations of a workflow against each other, object by object and field by field."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# The parts that are lists of objects; "workflow" itself is one object.
LISTS: Final = ("sources", "cadences", "audience", "channels")
_LONG = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """``name``: the path to it, such as ``config.url``. None is what was not there."""

    name: str
    before: Any
    after: Any

    @property
    def lines(self) -> list[tuple[str, str]]:
        """A long text line by line, each with "-", "+" or " " (in both); empty for what is short."""
        if not any(isinstance(text, str) and (len(text) > _LONG or "\n" in text) for text in (self.before, self.after)):
            return []
        found = difflib.ndiff(str(self.before or "").splitlines(), str(self.after or "").splitlines())
        return [(line[0], line[2:]) for line in found if line[0] != "?"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One object that was ``added``, ``removed`` or ``changed``. ``name`` is empty where it has none."""

    part: str
    how: str
    name: str
    fields: Sequence[Field]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """What differs, in the order of the parts; objects are the same where their key is."""
    if fields := _fields(before["workflow"], after["workflow"]):
        yield Difference(part="workflow", how="changed", name=after["workflow"]["name"], fields=fields)
    for part in LISTS:
        old, new = ({entry["id"]: entry for entry in content[part]} for content in (before, after))
        for key in [*old, *(key for key in new if key not in old)]:
            if fields := _fields(old.get(key, {}), new.get(key, {})):
                how = "removed" if key not in new else "added" if key not in old else "changed"
                yield Difference(part=part, how=how, name=_name(new.get(key) or old[key]), fields=fields)


def described(content: Mapping[str, Any]) -> Iterator[Difference]:
    """The whole of one configuration, as if it had just been added."""
    yield from compare({"workflow": {}, **{part: [] for part in LISTS}}, content)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name") or entry.get("label") or "")


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Field]:
    """What differs; keys are no news, and what was empty and is not there now is none either."""
    old, new = dict(_flat(before)), dict(_flat(after))
    names = [name for name in {**old, **new} if name != "id" and old.get(name) != new.get(name)]
    fields = [Field(name=name, before=old.get(name), after=new.get(name)) for name in names]
    return [field for field in fields if field.before not in (None, "") or field.after not in (None, "")]


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is nested by its path: {"config": {"url": …}} as ("config.url", …)."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
