"""What every test may rely on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from compliance_bot.guardrails import policy
from compliance_bot.sandbox.server import Sandbox
from tests import world
from workflows import triggers


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and secrets of one test are not another's."""
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path / "data")
    (tmp_path / "data").mkdir()


@pytest.fixture(autouse=True)
def fresh_policy() -> Iterator[None]:
    policy.current.cache_clear()
    yield
    policy.current.cache_clear()


@pytest.fixture
def wecom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with world.wecom(tmp_path / "wecom", monkeypatch) as sandbox:
        yield sandbox


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """Real commits, for tests with several connections. The guards that keep decisions would keep the test's own
    clean-up out too, so they are lifted for that and put back."""
    triggers.install(connection)
    yield
    triggers.remove(connection)
