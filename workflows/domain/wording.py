"""Templates of messages: words with places for declared variables, and nothing else of a programming language.

They are Django's template language cut down to what words need. A value is foreign text: it is made inert for Markdown
before it is put in, so it can neither mention everybody nor open a link.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.template import Context, Engine, Template, TemplateSyntaxError
from django.template.base import FilterExpression, Node, TextNode, VariableNode
from django.template.defaulttags import CommentNode, ForNode, IfNode
from django.utils.translation import gettext as _

from workflows.domain.content import Content
from workflows.domain.text import escape_markdown, strip_invisible

Value = str | Sequence[str]

LONGEST = 20_000
"""Characters of a rendered body."""
_MOST_VALUES = 200
_FILTERS = {"default", "upper", "lower", "capfirst", "join", "length", "truncatechars", "first", "last", "pluralize"}
_NODES = (TextNode, VariableNode, IfNode, ForNode, CommentNode)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_engine = Engine(autoescape=False, string_if_invalid="")


class WordingError(ValueError):
    """A template or a value that cannot be used; the message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A declared place. ``sample`` is what previews show; a list where there may be several."""

    name: str
    sample: Value


DIGEST = (
    Variable(name="title", sample="Watch · update · 23 Nov 09:00"),
    Variable(name="items", sample=("**1. First story**\n> What it says", "**2. Second story**\n> What it says")),
)
"""What the template of a workflow's digests is given; the items are Markdown already."""


def declared(text: str) -> tuple[Variable, ...]:
    """Variables from lines such as ``deadline = 30 November`` and ``offices[] = Beijing; Shanghai``.

    Raises WordingError, naming the line.
    """
    found: dict[str, Variable] = {}
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        name, equals, sample = (part.strip() for part in line.partition("="))
        several = name.endswith("[]")
        name = name.removesuffix("[]")
        if not equals or not _NAME.fullmatch(name):
            raise WordingError(_("Line %(n)s: write “name = sample”, in small letters.") % {"n": number})
        if name in found:
            raise WordingError(_("Line %(n)s: “%(name)s” is declared twice.") % {"n": number, "name": name})
        found[name] = Variable(name=name, sample=listed(sample) if several else sample)
    return tuple(found.values())


def listed(text: str) -> tuple[str, ...]:
    """Several values of one variable, as a person writes them."""
    return tuple(filter(None, (part.strip() for part in re.split(r"[;；\n]", text))))[:_MOST_VALUES]


def check(source: str, variables: Sequence[Variable]) -> None:
    """Raises WordingError unless the template uses declared variables and plain constructs only."""
    _compiled(source, {variable.name for variable in variables})


def samples(variables: Sequence[Variable]) -> dict[str, Value]:
    return {variable.name: variable.sample for variable in variables}


def render(source: str, values: Mapping[str, Value]) -> str:
    """The words with foreign values in their places. Raises WordingError."""
    return _rendered(source, {name: _inert(value) for name, value in values.items()})


def of_digest(source: str, content: Content) -> Content:
    """A digest's content in the words of a template. Raises WordingError."""
    text = _rendered(source, {"title": content.title, "items": content.blocks})
    return Content(title=content.title, blocks=blocks(text), entries=content.entries, digest=content.digest)


def blocks(text: str) -> tuple[str, ...]:
    """The blocks of a text: an empty line ends one."""
    found = (block.strip() for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")))
    return tuple(block for block in found if block)


def _rendered(source: str, values: Mapping[str, Value]) -> str:
    template = _compiled(source, set(values))
    text = template.render(Context(dict(values), autoescape=False))
    if len(text) > LONGEST:
        raise WordingError(_("The text has more than %(most)s characters.") % {"most": LONGEST})
    return text.strip()


def _inert(value: Value) -> Value:
    if isinstance(value, str):
        return escape_markdown(" ".join(strip_invisible(value).split()))
    return [escape_markdown(" ".join(strip_invisible(one).split())) for one in value]


def _compiled(source: str, names: set[str]) -> Template:
    try:
        template = Template(source, engine=_engine)
    except TemplateSyntaxError as error:
        raise WordingError(_("The template cannot be read: %(why)s") % {"why": error}) from error
    known = names | _loop_variables(template)
    for node in template.nodelist.get_nodes_by_type(Node):
        if not isinstance(node, _NODES):
            raise WordingError(_("“%(tag)s” cannot be used here.") % {"tag": _tag(node)})
        for expression in _expressions(node):
            _require_plain(expression, known)
        if isinstance(node, ForNode):
            _require_simple(node)
    return template


def _require_simple(loop: ForNode) -> None:
    """One variable, and no loop inside: a few nested ones would keep a worker busy for hours."""
    if len(loop.loopvars) > 1:
        raise WordingError(_("A loop has one variable."))
    if any(inner is not loop for inner in loop.get_nodes_by_type(ForNode)):
        raise WordingError(_("A loop inside a loop cannot be used here."))


def _loop_variables(template: Template) -> set[str]:
    loops = template.nodelist.get_nodes_by_type(ForNode)
    return {"forloop"} | {name for loop in loops if isinstance(loop, ForNode) for name in loop.loopvars}


def _tag(node: Node) -> str:
    return node.token.contents.split()[0] if node.token else type(node).__name__


def _expressions(node: Node) -> Iterator[FilterExpression]:
    if isinstance(node, VariableNode):
        yield node.filter_expression
    elif isinstance(node, ForNode):
        assert isinstance(node.sequence, FilterExpression)  # noqa: S101 - a loop over a literal is one, too
        yield node.sequence
    elif isinstance(node, IfNode):
        for condition, _nodes in node.conditions_nodelists:
            yield from _operands(condition)


def _operands(condition: Any) -> Iterator[FilterExpression]:
    """The variables of an ``if``: its operators hold operands, and the innermost a filter expression."""
    if condition is None:
        return
    value = getattr(condition, "value", None)
    if isinstance(value, FilterExpression):
        yield value
    for side in (getattr(condition, "first", None), getattr(condition, "second", None)):
        if side is not None:
            yield from _operands(side)


def _require_plain(expression: FilterExpression, known: set[str]) -> None:
    variable = expression.var
    lookups = getattr(variable, "lookups", None)
    if lookups:
        if lookups[0] not in known:
            names = ", ".join(sorted(known - {"forloop"})) or "–"
            said = {"name": lookups[0], "names": names}
            raise WordingError(_("“%(name)s” is not declared (there are: %(names)s).") % said)
        if len(lookups) > 1 and lookups[0] != "forloop":
            raise WordingError(_("“%(name)s” has no parts.") % {"name": lookups[0]})
    for function, arguments in expression.filters:
        name = getattr(function, "_filter_name", function.__name__)
        if name not in _FILTERS:
            raise WordingError(_("The filter “%(name)s” cannot be used here.") % {"name": name})
        for is_variable, argument in arguments:
            if is_variable and (not argument.lookups or argument.lookups[0] not in known):
                raise WordingError(_("“%(name)s” is not declared.") % {"name": argument.var})
