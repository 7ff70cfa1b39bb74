"""Access tokens: fetched by one process, shared by all, stored encrypted."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from workflows.channels import DeliveryError, Token, TryLater
from workflows.models import AccessToken, Channel

# Longer than a call may take: whoever fetches is not overtaken while it lives.
_LEASE = timedelta(seconds=30)
_BUSY_SECONDS = 2.0
# A token is not used up to its last second: a call takes time, and clocks differ.
_EARLY = timedelta(seconds=120)


class SharedToken:
    """The token of one channel. Nothing is fetched inside a transaction, nor by two processes at once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def get(self, fetch: Callable[[], Token]) -> str:
        """The token in force. Raises TryLater while another process fetches one, and whatever ``fetch`` raises."""
        row = AccessToken.objects.filter(channel=self._channel, expires_at__gt=timezone.now()).first()
        return (row and _opened(row.value)) or self._fetch(fetch)

    def renew(self, spent: str, fetch: Callable[[], Token]) -> str:
        """The token that follows ``spent``: another process's, if it was faster."""
        row = AccessToken.objects.filter(channel=self._channel, expires_at__gt=timezone.now()).first()
        known = row and _opened(row.value)
        return known if known and not hmac.compare_digest(known, spent) else self._fetch(fetch)

    def _fetch(self, fetch: Callable[[], Token]) -> str:
        now = timezone.now()
        with transaction.atomic():
            AccessToken.objects.get_or_create(channel=self._channel)
            unclaimed = Q(fetching_until=None) | Q(fetching_until__lte=now)
            if not AccessToken.objects.filter(unclaimed, channel=self._channel).update(fetching_until=now + _LEASE):
                busy = _("Another worker fetches an access token at this moment.")
                raise TryLater("token_busy", busy, retry_after=_BUSY_SECONDS)
        try:
            token = fetch()
        except DeliveryError:
            AccessToken.objects.filter(channel=self._channel).update(fetching_until=None)
            raise
        lasts = max(timedelta(seconds=token.lasts) - _EARLY, timedelta(seconds=token.lasts / 2))
        AccessToken.objects.filter(channel=self._channel).update(
            value=_cipher().encrypt(token.value.encode()), expires_at=now + lasts, fetching_until=None
        )
        return token.value


def _opened(value: bytes | memoryview) -> str:
    """The token; "" where it was stored under another key: a new one is fetched."""
    try:
        return _cipher().decrypt(bytes(value)).decode()
    except InvalidToken:
        return ""


def _cipher() -> Fernet:
    key = hashlib.sha256(f"workflows.token:{settings.SECRET_KEY}".encode()).digest()
    return Fernet(urlsafe_b64encode(key))
