"""The same few people in every test, so that permission tests read as sentences."""

from django.contrib.auth.models import Group, User

from workflows import roles


def person(name: str, *groups: str, superuser: bool = False) -> User:
    user = User.objects.create_user(name, password="correct horse battery", is_staff=True, is_superuser=superuser)
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


def alice() -> User:
    """A workflow author: the maker."""
    return person("alice", roles.AUTHOR)


def olivia() -> User:
    """A compliance officer: the checker."""
    return person("olivia", roles.OFFICER)


def oscar() -> User:
    """A second compliance officer."""
    return person("oscar", roles.OFFICER)


def sam() -> User:
    """A superuser, who is bound by four eyes like everybody."""
    return person("sam", superuser=True)


def nora() -> User:
    """Signed in, without a role."""
    return person("nora")
