"""What the commands to pause and to resume sending are told."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from workflows.models import Channel, Workflow
from workflows.services.pauses import Target


def add_switch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--as", required=True, metavar="USERNAME", help="for whom; this account needs the right")
    parser.add_argument("--reason", required=True, help="why; the trail keeps it")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--channel", metavar="NAME", help="only this channel")
    target.add_argument("--workflow", metavar="NAME", help="only this workflow")


def person_named(username: str) -> User:
    try:
        return User.objects.get(username=username, is_active=True)
    except User.DoesNotExist as error:
        raise CommandError(f"There is no active account called {username!r}.") from error


def target_named(options: Mapping[str, Any]) -> Target | None:
    """The channel or workflow that was named; None is everything."""
    for model, name in ((Channel, options["channel"]), (Workflow, options["workflow"])):
        if name is not None:
            try:
                return model.objects.get(name=name)
            except model.DoesNotExist as error:
                raise CommandError(f"There is no {model._meta.model_name} called {name!r}.") from error
    return None
