"""Sign-ins, sign-outs and failures, as the framework announces them, and pages that were not for who asked."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from audit import context
from audit.recorder import Outcome, record
from audit.vocabulary import AccessEvent


@receiver(user_logged_in)
def signed_in(user: AbstractBaseUser, **kwargs: Any) -> None:
    with transaction.atomic(), context.acting(user):
        record(AccessEvent.SIGNED_IN, target=user)


@receiver(user_logged_out)
def signed_out(user: AbstractBaseUser | None, **kwargs: Any) -> None:
    if user is not None:
        with transaction.atomic(), context.acting(user):
            record(AccessEvent.SIGNED_OUT, target=user)


@receiver(user_login_failed)
def sign_in_failed(credentials: dict[str, Any], **kwargs: Any) -> None:
    with transaction.atomic():
        record(
            AccessEvent.SIGN_IN_FAILED,
            outcome=Outcome.FAILURE,
            facts={"username": str(credentials.get("username", ""))[:150]},
        )


def denied(request: HttpRequest) -> None:
    with transaction.atomic():
        record(AccessEvent.DENIED, outcome=Outcome.REFUSED, facts={"path": request.path})
