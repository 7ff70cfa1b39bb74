"""The example that a first start in the sandbox brings: one workflow, ready to be looked at."""

from datetime import time

from django.conf import settings
from django.contrib.auth.models import User

from workflows.models import (
    Audience,
    AudienceMember,
    Cadence,
    Channel,
    ChannelSecret,
    SecretRef,
    Source,
    Workflow,
)
from workflows.models.workflow import DigestKind
from workflows.services import runs, schedule, secrets

_CONTRACT = """\
Reads three feeds of the sandbox's news world.
Sends one digest every two hours during business time, and a summary of the day at 18:00, to the compliance group.
Nothing leaves before a compliance officer has approved it.
"""


def create(*, owner: User) -> None:
    """Wire the loop to the sandbox and start a first run. Call it inside a transaction."""
    key = SecretRef.objects.create(name="sandbox-robot", owner=owner, note="Key of the sandbox's group robot")
    secrets.store(secret=key, value="sandbox-compliance-group", by=owner)
    channel = Channel.objects.create(
        name="Sandbox group robot", kind="wecom_robot", config={"base_url": settings.SANDBOX_URL}
    )
    ChannelSecret.objects.create(channel=channel, field="key", secret=key)
    audience = Audience.objects.create(name="Compliance group", note="The sandbox's group chat")
    AudienceMember.objects.create(audience=audience, channel=channel, label="Compliance group", size=180)
    workflow = Workflow.objects.create(
        name="Regulatory watch",
        goal="The compliance group knows what regulators published today.",
        contract=_CONTRACT,
        owner=owner,
        language="en",
        audience=audience,
    )
    for name, path in (
        ("Harbour Data Authority", "regulator.xml"),
        ("海湾数据监管局公报", "gazette.atom"),
        ("Compliance briefing", "briefing.json"),
    ):
        source = Source.objects.create(name=name, config={"url": f"{settings.SANDBOX_URL}/news/{path}"})
        workflow.sources.add(source)
    Cadence.objects.create(workflow=workflow, every_minutes=120, window_start=time(9, 0), window_end=time(17, 0))
    Cadence.objects.create(
        workflow=workflow, digest_kind=DigestKind.SUMMARY, pattern=Cadence.Pattern.DAILY, at=time(18, 0)
    )
    schedule.activate(workflow=workflow, by=owner, reason="The example of the first start")
    runs.run_now(workflow=workflow, by=owner, digest_kind=DigestKind.UPDATE)
