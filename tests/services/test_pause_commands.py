"""The kill switch from a shell of the server."""

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditEvent
from tests import people, world
from workflows.models import SendingPause
from workflows.services import pauses

pytestmark = pytest.mark.django_db


def test_all_sending_is_paused_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    people.olivia()
    call_command("pause_sending", "--as", "olivia", "--reason", "The pages are down")
    assert capsys.readouterr().out == "Paused: all sending.\n"
    assert pauses.of(None) is not None
    call_command("resume_sending", "--as", "olivia", "--reason", "They are up")
    assert pauses.of(None) is None
    told = AuditEvent.objects.filter(what__startswith="sending.").order_by("id")
    assert [(event.who_label, event.on_behalf_of, event.why) for event in told] == [
        ("system", "olivia", "The pages are down"),
        ("system", "olivia", "They are up"),
    ]


def test_one_channel_or_workflow_is_named() -> None:
    olivia = people.olivia()
    robot = world.robot(olivia)
    flow = world.workflow(olivia, world.audience(robot))
    call_command("pause_sending", "--as", "olivia", "--reason", "Wrong group", "--channel", "Robot")
    call_command("pause_sending", "--as", "olivia", "--reason", "Wrong source", "--workflow", "Watch")
    assert {str(paused.target) for paused in pauses.active()} == {"Robot", "Watch"}
    call_command("resume_sending", "--as", "olivia", "--reason", "Right group", "--channel", "Robot")
    assert (pauses.of(robot), str(pauses.of(flow))) == (None, "Watch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--as", "nobody", "--reason", "Why"), "There is no active account called 'nobody'."),
        (("--as", "olivia", "--reason", "Why", "--channel", "x"), "There is no channel called 'x'."),
        (("--as", "olivia", "--reason", "Why", "--workflow", ""), "There is no workflow called ''."),
        (("--as", "olivia", "--reason", " "), "Say why."),
        (("--as", "alice", "--reason", "Why"), "Your role does not include pausing and resuming sending."),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], said: str) -> None:
    people.olivia()
    people.alice()
    with pytest.raises(CommandError) as refused:
        call_command("pause_sending", *arguments)
    assert str(refused.value) == said
    assert not SendingPause.objects.exists()


def test_what_is_not_paused_is_not_resumed() -> None:
    people.olivia()
    with pytest.raises(CommandError, match="Not paused: all sending"):
        call_command("resume_sending", "--as", "olivia", "--reason", "Why")
