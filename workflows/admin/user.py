"""People and their roles. Who manages accounts must not be able to become, or to speak as, the second person."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from compliance_bot.guardrails.paging import CalmList
from workflows.admin.base import person

_RIGHTS = ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister(User)


@admin.register(User)
class PeopleAdmin(CalmList, UserAdmin[User]):
    """Only a superuser gives direct rights, touches their own, or those of another superuser."""

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        if person(request).is_superuser:
            return ("last_login", "date_joined")
        own = obj is not None and (obj == request.user or obj.is_superuser)
        return ("last_login", "date_joined", *(_RIGHTS if own else ("is_superuser", "user_permissions")))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """An account is switched off, never removed: what it did stays readable."""
        return False

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Setting an officer's password would be signing as the officer."""
        user = self.get_object(request, id)
        if user is not None and not person(request).is_superuser and _decides(user):
            raise PermissionDenied
        with transaction.atomic():  # the password and its event, or neither
            return super().user_change_password(request, id, form_url)


def _decides(user: User) -> bool:
    """Whether to be this person is to hold evidence, or to be one of two."""
    rights = ("workflows.decide_approvalrequest", "audit.export_auditevent", "audit.release_audithold")
    return user.is_superuser or any(map(user.has_perm, rights))
