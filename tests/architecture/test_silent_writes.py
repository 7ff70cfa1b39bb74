"""Writes past ``save()`` reach no signal, so no difference of theirs is on the trail: whoever makes one records it."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from django.conf import settings

ROOT: Path = settings.BASE_DIR
ROOMS = ("audit", "compliance_bot", "workflows")

# Where such a write stands without its event, and why that is in order.
ALLOWED: Mapping[str, str] = {
    # What the trail keeps for itself.
    "audit/recorder.py: record_all": "These are the events.",
    "audit/export/jobs.py: let_go": "The approval that it follows from is recorded.",
    "audit/export/jobs.py: _save": "How far a file was written; its start and its end are recorded.",
    "audit/export/jobs.py: _slice": "The same: the worker's time is over.",
    "audit/export/jobs.py: reserve": "The same: a worker's claim.",
    "audit/export/jobs.py: work": "The same: a worker's claim.",
    "audit/forwarding/__init__.py: _put_off": "How far a receiver was told; an event of each would be told in turn.",
    "audit/forwarding/__init__.py: _take": "The same: a worker's claim.",
    "audit/forwarding/__init__.py: forward": "The same: the receiver's progress.",
    "audit/forwarding/__init__.py: reserve": "The same: a worker's claim.",
    "audit/management/commands/audit_archive.py: _write_sqlite": "A copy in another file; the reading is recorded.",
    "audit/payloads.py: forget": "Its callers record what they have erased, and why.",
    "audit/reports.py: start": "When it is due next; the export that is asked for, or its refusal, is recorded.",
    "audit/retention.py: _delete_batch": "The purge records grant and outcome; each deleted event has its purge row.",
    "audit/sealing.py: _write_leaves": "The leaves of a seal, which is its own proof.",
    "audit/search_index.py: add": "Follows from the event that is being recorded.",
    "audit/search_index.py: clear": "The index is made anew from the events.",
    "audit/search_index.py: remove": "Follows from the purge of the events.",
    # Declared in the code, written at each migration.
    "workflows/schedules.py: sync": "The queue's schedules are as the release says.",
    # Configuration, saved one by one: signals put the difference on the trail.
    "workflows/admin/channel.py: ChannelForm.save_secrets": "Saves instances, so audit.diffs records the difference.",
    "workflows/services/changes.py: write": "Saves and deletes instances, so audit.diffs records the difference.",
    # Configuration, a column that is no configuration and is not tracked.
    "workflows/services/schedule.py: plan": "When a rhythm is due next follows from the rhythm.",
    # One step of a service that records the whole.
    "workflows/services/approvals.py: _move": "Its callers record which decision moved the request.",
    "workflows/services/collecting.py: _store": "Its caller records that the source was read, and how much was new.",
    "workflows/services/imports.py: _move": "Its callers record the confirmation, the import or its failure.",
    "workflows/services/messages.py: _move": "Its callers record release, cancellation or return.",
    "workflows/services/messages.py: _store": "Its caller records the release.",
    "workflows/services/messages.py: abandon": "The run records that it failed, and cancelling is on the trail.",
    "workflows/services/messages.py: settle_entries": "Follows from the message's end, which its callers record.",
    "workflows/services/tokens.py: SharedToken._fetch": "A cache; reading the secret that it is fetched with is told.",
    # One step of the housekeeping, which records each batch.
    "workflows/services/housekeeping.py: _raw": "Its chores are carried out by _do, which records what went, and why.",
    # When somebody looks again: no fact about the world.
    "workflows/services/delivery.py: _plan_next": "When a worker looks at the message again.",
    "workflows/services/ledger.py: _begin_probe": "When a broken channel is tried; what comes of it is recorded.",
    "workflows/services/ledger.py: _without_the_saturated": "Waiting for a recipient's pace.",
    "workflows/services/ledger.py: hold_back": "Waiting for the pace.",
    "workflows/services/imports.py: _tell": "How far a worker is; what comes of it is recorded.",
    "workflows/services/imports.py: hand_out_again": "When a worker looks at the import again.",
    "workflows/services/imports.py: work": "A worker's try; what comes of it is recorded.",
    "workflows/services/messages.py: look_again": "When a worker looks at the messages again.",
    "workflows/services/messages.py: wake": "When a worker looks at the message again.",
    "workflows/services/pacing.py: take": "A minute's memory of the pace; the attempt is recorded.",
    "workflows/services/pacing.py: free": "A minute's memory of the pace; the attempt is recorded.",
}  # fmt: skip

_BULK = {
    *("bulk_create", "bulk_update", "update_or_create", "_raw_delete"),
    *("abulk_create", "abulk_update", "aupdate_or_create"),
}
_QUERIES = {"all", "filter", "exclude", "order_by", "select_related", "select_for_update", "objects", "using"}
_PLAIN = {"dict", "set", "Counter", "defaultdict"}
_WRITING = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|MERGE|COPY)\b", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def silent_writes(source: str) -> Iterator[tuple[str, int]]:
    """(function, line) of each write in bulk that does not stand in a function that records."""
    for name, nodes in _functions(ast.parse(source)):
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        if not any(_called(call) in {"record", "record_all"} for call in calls):
            plain, texts = set(_plain_names(nodes)), dict(_texts(nodes))
            yield from ((name, call.lineno) for call in calls if _writes(call, plain, texts))


def _functions(module: ast.Module) -> Iterator[tuple[str, list[ast.AST]]]:
    """Every function and method with all that stands in it; then what stands in none."""
    inside: set[ast.AST] = set()
    owners = [("", module.body)]
    owners += [(f"{node.name}.", node.body) for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    for prefix, body in owners:
        for node in body:
            if isinstance(node, Function):
                inside.update(ast.walk(node))
                yield f"{prefix}{node.name}", list(ast.walk(node))
    yield "<module>", [node for node in ast.walk(module) if node not in inside]


def _writes(call: ast.Call, plain: set[str], texts: Mapping[str, str]) -> bool:
    name = _called(call)
    if name in {"execute", "executemany"}:
        return bool(call.args) and bool(_WRITING.match(_text(call.args[0], texts)))
    if not isinstance(call.func, ast.Attribute):
        return False
    receiver = call.func.value
    if name in {"update", "aupdate"}:
        # A query set takes names only. A dict can too, so one that was made as a dict or set here does not count.
        named = not call.args and bool(call.keywords)
        return _is_query(receiver) or (named and not (isinstance(receiver, ast.Name) and receiver.id in plain))
    return name in _BULK or (name in {"delete", "adelete"} and not call.args)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_query(receiver: ast.AST) -> bool:
    """Whether a chain such as ``Model.objects.filter(...)`` leads to it."""
    while isinstance(receiver, ast.Call | ast.Attribute):
        if isinstance(receiver, ast.Attribute) and receiver.attr in _QUERIES:
            return True
        receiver = receiver.func if isinstance(receiver, ast.Call) else receiver.value
    return False


def _assigned(nodes: list[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _plain_names(nodes: list[ast.AST]) -> Iterator[str]:
    literals = ast.Dict | ast.DictComp | ast.Set | ast.SetComp
    for name, value in _assigned(nodes):
        if isinstance(value, literals) or (isinstance(value, ast.Call) and _called(value) in _PLAIN):
            yield name


def _texts(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    yield from ((name, _text(value, {})) for name, value in _assigned(nodes))


def _text(node: ast.AST, texts: Mapping[str, str]) -> str:
    """The beginning of a literal text, or of the one that the name stands for."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[first, *_]):
            return _text(first, texts)
        case ast.Name(id=name):
            return texts.get(name, "")
    return ""


def _found() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "migrations" not in path.parts:
                for function, line in silent_writes(path.read_text("utf-8")):
                    found.setdefault(f"{path.relative_to(ROOT)}: {function}", []).append(line)
    return found


def test_no_write_in_bulk_is_silent() -> None:
    silent = {place: lines for place, lines in _found().items() if place not in ALLOWED}
    assert silent == {}, "record what is written, in the same function, or say above why it need not be"


def test_no_permission_outlives_its_reason() -> None:
    assert set(ALLOWED) - set(_found()) == set()
    assert all(reason.endswith(".") for reason in ALLOWED.values())


def planted(*lines: str) -> list[int]:
    source = "def change(rows, cursor):\n" + "".join(f"    {line}\n" for line in lines)
    return [line - 1 for _function, line in silent_writes(source)]


def test_a_planted_write_is_found() -> None:
    assert planted("Channel.objects.update(enabled=False)") == [1]
    assert planted("Channel.objects.filter(pk=1).update(**{'enabled': False})") == [1]
    assert planted("rows.update(enabled=False)") == [1]
    assert planted("rows.delete()") == [1]
    assert planted("Channel.objects.bulk_create(rows)", "Channel.objects.bulk_update(rows, ['name'])") == [1, 2]
    assert planted("Channel.objects.update_or_create(pk=1)") == [1]
    assert planted("rows._raw_delete(rows.db)") == [1]
    assert planted("cursor.execute('UPDATE workflows_channel SET enabled = 1')") == [1]
    assert planted("cursor.executemany(f'DELETE FROM {rows}', [])") == [1]
    assert planted("sql = 'insert into workflows_channel'", "cursor.execute(sql)") == [2]


def test_a_planted_write_that_is_waited_for_is_found() -> None:
    assert planted("await rows.aupdate(enabled=False)", "await rows.adelete()") == [1, 2]
    assert planted("await Channel.objects.filter(pk=1).aupdate(**{'enabled': False})") == [1]
    assert planted("await Channel.objects.abulk_create(rows)") == [1]
    assert planted("await Channel.objects.abulk_update(rows, ['name'])") == [1]
    assert planted("await Channel.objects.aupdate_or_create(pk=1)") == [1]


def test_a_write_in_a_nested_function_is_found() -> None:
    assert planted("def inner():", "    rows.delete()", "later = lambda: rows.update(a=1)") == [2, 3]


def test_a_write_outside_of_functions_and_in_methods_is_found() -> None:
    assert list(silent_writes("Channel.objects.all().delete()")) == [("<module>", 1)]
    assert list(silent_writes("class A:\n    def b(self):\n        self.rows.delete()")) == [("A.b", 3)]


def test_what_is_recorded_is_not_silent() -> None:
    assert planted("Channel.objects.update(enabled=False)", "record('channel.broken')") == []
    assert planted("Channel.objects.update(enabled=False)", "recorder.record('channel.broken')") == []


def test_what_is_no_write_is_none() -> None:
    assert planted("seen = set()", "seen.update([1])", "digest.update(b'')", "values.update({'a': 1})") == []
    assert planted("names = {}", "names.update(a=1)") == []
    assert planted("http.delete('https://example.org')", "cursor.execute('SELECT 1')") == []
