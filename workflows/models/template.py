from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain import wording
from workflows.domain.wording import Variable, WordingError


class MessageTemplate(models.Model):
    """Words with places: for messages that people write again and again, or for a workflow's digests."""

    class Purpose(models.TextChoices):
        MESSAGE = "message", _("Messages that people write")
        DIGEST = "digest", _("Digests of workflows")

    name = models.CharField(_("name"), max_length=120, unique=True)
    purpose = models.CharField(_("for"), max_length=10, choices=Purpose, default=Purpose.MESSAGE)
    variables = models.TextField(
        _("variables"),
        blank=True,
        max_length=4000,
        help_text=_(
            "One a line, with a sample: “deadline = 30 November”; several values: “offices[] = Beijing; Shanghai”."
        ),
    )
    subject = models.CharField(
        _("subject"), max_length=200, blank=True, help_text=_("Of a message; a digest has its own.")
    )
    body = models.TextField(
        _("body"),
        max_length=10_000,
        help_text=_("Markdown with places such as {{ deadline }}; also {% if %}, {% for %} and plain filters."),
    )

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(purpose__in=["message", "digest"]), name="template_purpose_known")
        ]

    def __str__(self) -> str:
        return self.name

    def declared(self) -> tuple[Variable, ...]:
        """The variables that it may use. Raises WordingError."""
        return wording.DIGEST if self.purpose == self.Purpose.DIGEST else wording.declared(self.variables)

    def clean(self) -> None:
        if self.purpose == self.Purpose.MESSAGE and not self.subject.strip():
            raise ValidationError({"subject": _("A message needs a subject.")})
        problems = {}
        try:
            declared = self.declared()
        except WordingError as error:
            raise ValidationError({"variables": str(error)}) from error
        for field in ("subject", "body"):
            try:
                wording.check(getattr(self, field), declared)
            except WordingError as error:
                problems[field] = str(error)
        if problems:
            raise ValidationError(problems)
