"""The four roles, each with the least that its work needs. Created once; administrators may change them after."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group, Permission

AUTHOR = "Workflow authors"
OFFICER = "Compliance officers"
AUDITOR = "Auditors"
ADMINISTRATOR = "Administrators"


def _in(app: str, words: str) -> list[str]:
    return [f"{app}.{word}" for word in words.split()]


_SEE_THE_LOOP = _in(
    "workflows",
    "view_workflow view_cadence view_source view_channel view_audience view_audiencemember view_run view_item "
    "view_digest view_message view_messagetemplate view_delivery view_approvalrequest view_standingapproval "
    "view_sendingpause view_inclusion view_suppression",
)

_OVERSEE = _in(
    "audit",
    "view_auditevent export_auditevent view_auditexport view_auditseal view_audithold view_auditpurgegrant",
)

PERMISSIONS: Mapping[str, list[str]] = {
    AUTHOR: [
        *_SEE_THE_LOOP,
        *_in("workflows", "add_workflow change_workflow delete_workflow run_workflow"),
        *_in("workflows", "add_source change_source delete_source delete_audience"),
        *_in("workflows", "add_cadence change_cadence delete_cadence add_audience change_audience"),
        *_in("workflows", "add_audiencemember change_audiencemember delete_audiencemember"),
        *_in("workflows", "add_messagetemplate change_messagetemplate delete_messagetemplate"),
        *_in("workflows", "add_inclusion change_inclusion delete_inclusion add_suppression"),
        *_in("workflows", "add_message change_message submit_message add_standingapproval"),
    ],
    OFFICER: [
        *_SEE_THE_LOOP,
        *_in("workflows", "decide_approvalrequest revoke_standingapproval settle_delivery pause_sending"),
        *_in("workflows", "add_suppression delete_suppression"),
        *_OVERSEE,
        *_in("audit", "add_audithold release_audithold"),
        *_in("audit", "view_auditreport add_auditreport change_auditreport"),
    ],
    AUDITOR: [
        *_SEE_THE_LOOP,
        *_in("workflows", "view_secretref view_callbackapp view_inboundevent view_wecomaccount"),
        *_OVERSEE,
        *_in("audit", "view_auditreport add_auditreport change_auditreport"),
    ],
    ADMINISTRATOR: [
        *_SEE_THE_LOOP,
        *_in("workflows", "add_channel change_channel delete_channel view_secretref add_secretref change_secretref"),
        *_in("workflows", "change_workflow run_workflow change_source pause_sending break_glass"),
        *_in("workflows", "view_policyoverride add_policyoverride change_policyoverride delete_policyoverride"),
        *_in("workflows", "add_callbackapp change_callbackapp delete_callbackapp view_callbackapp view_inboundevent"),
        *_in("workflows", "add_wecomaccount change_wecomaccount delete_wecomaccount view_wecomaccount"),
        *_in("auth", "view_user add_user change_user view_group"),
        *_in("audit", "view_auditevent view_auditseal view_audithold view_auditpurgegrant"),
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
