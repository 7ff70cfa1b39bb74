"""The same as in English: figures need no translation."""

from compliance_bot.formats.en.formats import *  # noqa: F403
