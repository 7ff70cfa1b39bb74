"""The page Policy: what is in force and why, overrides by form, a file that waits for acknowledgement."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from compliance_bot.guardrails import policy
from tests import people
from workflows import roles
from workflows.models import ApprovalRequest, PolicyOverride
from workflows.services import policies

pytestmark = pytest.mark.django_db

LIST = "admin:workflows_policyoverride_changelist"
ADD = "admin:workflows_policyoverride_add"
ACKNOWLEDGE = "admin:workflows_policyfile_acknowledge"
RATE = "actions.rate_limit_per_minute"


def signed_in(*groups: str) -> Client:
    client = Client()
    client.force_login(people.person("ada", *groups))
    return client


@pytest.fixture
def administrator() -> Client:
    return signed_in(roles.ADMINISTRATOR)


def add(client: Client, key: str, value: str) -> str:
    return client.post(reverse(ADD), {"key": key, "value": value, "note": "Board, 3 May"}).content.decode()


@pytest.mark.parametrize("role", [roles.AUTHOR, roles.OFFICER, roles.AUDITOR])
def test_other_roles_do_not_see_it(role: str) -> None:
    client = signed_in(role)
    for url in (reverse(LIST), reverse(ADD)):
        assert client.get(url).status_code == 403
    assert client.post(reverse(ACKNOWLEDGE)).status_code == 403


def test_every_key_is_shown_with_the_file_the_override_and_what_is_in_force(administrator: Client) -> None:
    PolicyOverride.objects.create(key=RATE, value=7, note="A quiet week")
    response = administrator.get(reverse(LIST))
    rows = {row["key"]: row for section in response.context["sections"] for row in section["rows"]}
    assert list(rows) == list(policy.KEYS)
    assert (rows[RATE]["in_file"], rows[RATE]["in_force"]) == ("120", "7")
    html = response.content.decode()
    assert "A quiet week" in html
    assert all(f"<code>{key}</code>" in html for key in policy.KEYS)


def test_it_is_in_the_room_where_things_are_set_up(administrator: Client) -> None:
    html = administrator.get(reverse("admin:index")).content.decode()
    assert f'href="{reverse(LIST)}"' in html


def test_a_link_of_the_list_fills_the_form_with_what_is_in_force(administrator: Client) -> None:
    html = administrator.get(reverse(LIST)).content.decode()
    assert f"{reverse(ADD)}?key={RATE}&amp;value=120" in html
    form = administrator.get(reverse(ADD), {"key": RATE, "value": "120"}).content.decode()
    assert f'<option value="{RATE}" selected>' in form


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "security.actions.rate_limit_per_minute: 0 is less than the minimum of 1"),
        ("many", "&#x27;many&#x27; is not of type &#x27;integer&#x27;"),
        ("[", "not valid YAML"),
        ("[" * 4000, "nested too deeply"),
        ("", "This field is required"),
    ],
)
def test_a_value_that_the_key_cannot_have_is_refused_at_the_field(administrator: Client, value: str, said: str) -> None:
    html = add(administrator, RATE, value)
    assert 'id="id_value_error"' in html
    assert said in html
    assert not ApprovalRequest.objects.exists()


def test_an_unknown_key_is_refused(administrator: Client) -> None:
    assert "is not one of the available choices" in add(administrator, "actions.nonsense", "5")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (RATE, "7"),
        ("actions.rules.bulk_delete.threshold", "null"),
        ("network.allowlist_ips", "[10.0.0.0/8]"),
        ("actions.require_approval_for", "[]"),
        ("network.deny_public_admin", "false"),
        ("actions.business_hours.start", '"08:00"'),
    ],
)
def test_a_value_that_the_key_can_have_needs_a_second_person(administrator: Client, key: str, value: str) -> None:
    assert "This needs a second person" in add(administrator, key, value)
    assert not PolicyOverride.objects.exists()


def test_an_override_is_changed_under_its_key(administrator: Client) -> None:
    override = PolicyOverride.objects.create(key="actions.require_approval_for", value=["mass_send"])
    url = reverse("admin:workflows_policyoverride_change", args=[override.pk])
    html = administrator.get(url).content.decode()
    assert "[&quot;mass_send&quot;]" in html
    assert 'name="key"' not in html
    html = administrator.post(url, {"value": "[mass_sendd]", "note": ""}).content.decode()
    assert "actions.require_approval_for.0: &#x27;mass_sendd&#x27; is not one of" in html
    html = administrator.post(url, {"value": "[bulk_delete]", "note": ""}).content.decode()
    assert "This needs a second person" in html


def test_an_override_is_deleted_with_a_second_person(administrator: Client) -> None:
    override = PolicyOverride.objects.create(key=RATE, value=7)
    url = reverse("admin:workflows_policyoverride_delete", args=[override.pk])
    assert administrator.get(url).status_code == 200
    assert "This needs a second person" in administrator.post(url, {"post": "yes"}).content.decode()
    assert PolicyOverride.objects.exists()


def test_an_override_of_an_older_version_is_told_and_can_be_looked_at(administrator: Client) -> None:
    PolicyOverride.objects.bulk_create([PolicyOverride(key=RATE, value=0)])
    html = administrator.get(reverse(LIST)).content.decode()
    assert "0 is less than the minimum of 1" in html


class TestAcknowledgement:
    @pytest.fixture(autouse=True)
    def laxer_file(self, set_policy: Callable[[str], None]) -> None:
        for text in ("security: {}", "security: {actions: {rate_limit_per_minute: 500}}"):
            set_policy(text)
            policies.note_policy()

    def test_the_page_tells_what_waits(self, administrator: Client) -> None:
        response = administrator.get(reverse(LIST))
        assert response.context["relaxations"] == [(RATE, "120", "500")]
        assert "The policy file on the disk relaxes rules" in response.content.decode()

    def test_its_button_leads_to_a_second_person(self, administrator: Client) -> None:
        asked = administrator.post(reverse(ACKNOWLEDGE))
        html = asked.content.decode()
        assert "This needs a second person" in html
        assert f"{RATE}: 120 → 500" in html
        assert policies.unacknowledged() is not None

    def test_looking_asks_for_nothing(self, administrator: Client) -> None:
        assert administrator.get(reverse(ACKNOWLEDGE)).status_code == 405

    def test_where_nothing_waits_any_more_the_page_says_so(
        self, administrator: Client, set_policy: Callable[[str], None]
    ) -> None:
        set_policy("security: {}")
        policies.note_policy()
        html = administrator.post(reverse(ACKNOWLEDGE), follow=True).content.decode()
        assert "No policy file waits for acknowledgement." in html
