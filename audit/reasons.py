"""Why somebody did something, as it is typed into a form."""

from django.utils.translation import gettext as _

LONGEST = 500


class TooLong(ValueError):
    """A sentence for the person who wrote it."""


def clean(text: str) -> str:
    """As it is stored: browsers' line ends made plain, NUL taken out. Raises TooLong beyond 500 characters."""
    text = text.replace("\r\n", "\n").replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    if len(text) > LONGEST:
        raise TooLong(_("The reason is longer than %(count)d characters. Shorten it.") % {"count": LONGEST})
    return text
