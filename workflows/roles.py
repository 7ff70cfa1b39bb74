"""The four roles, each with the least that its work needs. Created once; administrators may change them after."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group, Permission

AUTHOR = "Workflow authors"
OFFICER = "Compliance officers"
AUDITOR = "Auditors"
ADMINISTRATOR = "Administrators"

_SEE_THE_LOOP = (
    "workflows.view_workflow workflows.view_cadence workflows.view_source workflows.view_channel "
    "workflows.view_audience workflows.view_audiencemember workflows.view_run workflows.view_item "
    "workflows.view_digest workflows.view_message workflows.view_delivery workflows.view_approvalrequest"
).split()

PERMISSIONS: Mapping[str, list[str]] = {
    AUTHOR: [
        *_SEE_THE_LOOP,
        *(
            "workflows.add_workflow workflows.change_workflow workflows.run_workflow "
            "workflows.add_cadence workflows.change_cadence workflows.delete_cadence "
            "workflows.add_source workflows.change_source "
            "workflows.add_audience workflows.change_audience "
            "workflows.add_audiencemember workflows.change_audiencemember workflows.delete_audiencemember "
            "workflows.add_message workflows.change_message workflows.submit_message"
        ).split(),
    ],
    OFFICER: [
        *_SEE_THE_LOOP,
        "workflows.decide_approvalrequest",
        "workflows.settle_delivery",
        "audit.view_auditevent",
    ],
    AUDITOR: [*_SEE_THE_LOOP, "workflows.view_secretref", "audit.view_auditevent", "audit.export_auditevent"],
    ADMINISTRATOR: [
        *_SEE_THE_LOOP,
        *(
            "workflows.add_channel workflows.change_channel "
            "workflows.view_secretref workflows.add_secretref workflows.change_secretref "
            "workflows.change_workflow workflows.run_workflow workflows.change_source "
            "auth.view_user auth.add_user auth.change_user auth.view_group audit.view_auditevent"
        ).split(),
    ],
}


def create_missing(**kwargs: Any) -> None:
    """After each migration: a role that is not there is made, one that is there is left as it is."""
    for name, labels in PERMISSIONS.items():
        group, created = Group.objects.get_or_create(name=name)
        if created:
            group.permissions.set([_permission(label) for label in labels])


def _permission(label: str) -> Permission:
    app, codename = label.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)
