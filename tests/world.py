"""A small loop to test with: a robot channel to a real WeCom stand-in on loopback, an audience, a workflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from compliance_bot.sandbox import start
from compliance_bot.sandbox.server import Sandbox
from workflows.models import (
    Audience,
    AudienceMember,
    Channel,
    ChannelSecret,
    Item,
    Message,
    SecretRef,
    Source,
    Workflow,
)
from workflows.services import messages, secrets

KEY = "tests-compliance-group"


@contextmanager
def wecom(data: Path, monkeypatch: pytest.MonkeyPatch, *, rate_limit: bool = True) -> Iterator[Sandbox]:
    """The sandbox on a free port, and this process allowed to reach it."""
    sandbox = start(0, data, rate_limit=rate_limit)
    monkeypatch.setattr(settings, "EGRESS_ALLOW", [sandbox.url.removeprefix("http://")])
    try:
        yield sandbox
    finally:
        sandbox.stop()


def robot(owner: User, base_url: str = "http://127.0.0.1:9", *, name: str = "Robot", key: str = KEY) -> Channel:
    secret = SecretRef.objects.create(name=f"robot-{name.lower()}", owner=owner)
    secrets.store(secret=secret, value=key, by=owner)
    channel = Channel.objects.create(name=name, config={"base_url": base_url})
    ChannelSecret.objects.create(channel=channel, field="key", secret=secret)
    return channel


def app(owner: User, base_url: str = "http://127.0.0.1:9", *, name: str = "App", secret: str = "s" * 40) -> Channel:
    stored = SecretRef.objects.create(name=f"app-{name.lower()}", owner=owner)
    secrets.store(secret=stored, value=secret, by=owner)
    config = {"base_url": base_url, "corp_id": "ww5823bf96d3bd56c7", "agent_id": 1000002, "form": "markdown"}
    channel = Channel.objects.create(name=name, kind="wecom_app", config=config, per_minute=600)
    ChannelSecret.objects.create(channel=channel, field="corp_secret", secret=stored)
    return channel


def members(channel: Channel, *addresses: str, name: str = "Staff") -> Audience:
    """An audience of single people (and of groups of 50 where the address stands for many)."""
    people = Audience.objects.create(name=name)
    AudienceMember.objects.bulk_create(
        AudienceMember(
            audience=people,
            channel=channel,
            label=address,
            address=address,
            is_group=":" in address,
            size=50 if ":" in address else 1,
        )
        for address in addresses
    )
    return people


def audience(channel: Channel, *, name: str = "Everyone", size: int | None = 180) -> Audience:
    group = Audience.objects.create(name=name)
    AudienceMember.objects.create(audience=group, channel=channel, label=f"{name} group", size=size)
    return group


def message(author: User, to: Audience, *, subject: str = "Quarterly reminder", body: str = "Please read.") -> Message:
    draft = Message(subject=subject, body=body, audience=to, reason="Yearly duty")
    messages.write(message=draft, by=author)
    return draft


def workflow(owner: User, to: Audience, *urls: str, max_age_days: int | None = None) -> Workflow:
    flow = Workflow.objects.create(
        name="Watch", goal="To know", owner=owner, audience=to, language="en", max_age_days=max_age_days
    )
    for number, url in enumerate(urls, 1):
        flow.sources.add(Source.objects.create(name=f"Source {number}", config={"url": url}))
    return flow


def item(source: Source, title: str, *, seen_at: datetime) -> Item:
    return Item.objects.create(
        source=source,
        title=title,
        url=f"https://news.example/{title}",
        content_hash=f"{source.pk}-{title}",
        story_hash=f"story-{title}",
        first_seen_at=seen_at,
    )
