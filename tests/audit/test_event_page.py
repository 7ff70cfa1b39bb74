"""What foreign texts can do to the page of one event: nothing."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from tests import people
from workflows import roles

pytestmark = pytest.mark.django_db

REVERSED = "\u202egniht"  # a right-to-left override: all that follows would be read backwards


def page(event: AuditEvent) -> str:
    client = Client()
    client.force_login(people.person("audrey", roles.AUDITOR))
    response = client.get(reverse("admin:audit_auditevent_change", args=[event.pk]))
    assert response.status_code == 200
    return response.content.decode()


def test_a_text_that_runs_backwards_turns_round_itself_alone() -> None:
    event = record(
        AccessEvent.DENIED,
        why=REVERSED,
        facts={REVERSED: REVERSED, "list": [REVERSED, f'a "{REVERSED}" b\\']},
        erasable={"changes": {REVERSED: [REVERSED, "after"]}},
    )
    html = page(event)
    assert html.count(REVERSED) == 7
    isolated = re.findall(r"<bdi>([^<]*)</bdi>", html)
    assert sum(text.count(REVERSED) for text in isolated) == 7
    # Each of the facts' texts alone, not one around all of them.
    assert isolated.count(f"&quot;{REVERSED}&quot;") == 3
    assert f"&quot;a \\&quot;{REVERSED}\\&quot; b\\\\&quot;" in isolated


def test_the_details_read_as_before() -> None:
    html = page(record(AccessEvent.DENIED, facts={"n": 1, "texts": ["<b>", ""], "none": None}))
    shown = re.sub("</?bdi>", "", html.split('<pre class="json">')[1].split("</pre>")[0])
    assert shown == (
        "{\n  &quot;n&quot;: 1,\n  &quot;none&quot;: null,\n  &quot;texts&quot;: [\n"
        "    &quot;&lt;b&gt;&quot;,\n    &quot;&quot;\n  ]\n}"
    )


def test_an_event_without_a_reason_says_so() -> None:
    html = page(record(AccessEvent.DENIED))
    assert re.search(r"<label>Why</label><div class=\"readonly\">–</div>", html)
