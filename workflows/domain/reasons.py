"""Why somebody did something, as it is typed into a form."""

from django.utils.translation import gettext as _

from workflows.domain.errors import Invalid

LONGEST = 500


def clean_reason(text: str) -> str:
    """As it is stored: browsers' line ends made plain, NUL taken out. Raises Invalid beyond 500 characters."""
    text = text.replace("\r\n", "\n").replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    if len(text) > LONGEST:
        raise Invalid(_("The reason is longer than %(count)d characters.") % {"count": LONGEST}, field="reason")
    return text
