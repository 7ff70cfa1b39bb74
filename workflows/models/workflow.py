from datetime import datetime, time
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain import cadence
from workflows.domain.states import WorkflowState
from workflows.models.audience import Audience
from workflows.models.source import Source
from workflows.models.template import MessageTemplate


def validate_time_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(_("%(name)s is not a time zone; write it like Asia/Shanghai."), params={"name": name})


class Workflow(models.Model):
    """Sources, a rhythm, an audience: one stream of digests with one responsible person."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    goal = models.CharField(_("goal"), max_length=300, help_text=_("What people get out of it, in one sentence."))
    contract = models.TextField(
        _("contract"),
        blank=True,
        help_text=_("What this workflow promises: what it reads, what it sends to whom, and when."),
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        verbose_name=_("owner"),
        help_text=_("Asks for approval of what this workflow sends, and can therefore never approve it."),
    )
    state = models.CharField(
        _("state"), max_length=10, choices=WorkflowState, default=WorkflowState.DRAFT, editable=False
    )
    time_zone = models.CharField(
        _("time zone"), max_length=50, default="Asia/Shanghai", validators=[validate_time_zone]
    )
    language = models.CharField(_("language of digests"), max_length=10, default="zh-hans", choices=settings.LANGUAGES)
    max_entries = models.PositiveSmallIntegerField(
        _("entries in a digest"), default=8, validators=[MinValueValidator(1), MaxValueValidator(50)]
    )
    max_age_days = models.PositiveSmallIntegerField(
        _("newest days only"),
        null=True,
        blank=True,
        default=7,
        validators=[MinValueValidator(1)],
        help_text=_("Items published longer ago are not offered. Empty: no limit."),
    )
    sources = models.ManyToManyField(Source, verbose_name=_("sources"), related_name="workflows", blank=True)
    audience = models.ForeignKey(Audience, on_delete=models.PROTECT, null=True, blank=True, verbose_name=_("audience"))
    template = models.ForeignKey(
        MessageTemplate,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        limit_choices_to={"purpose": MessageTemplate.Purpose.DIGEST},
        verbose_name=_("template"),
        help_text=_("The words around a digest's items. Empty: the items alone."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("workflow")
        verbose_name_plural = _("workflows")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=WorkflowState.values), name="workflow_state_known"),
            models.CheckConstraint(condition=models.Q(max_entries__range=(1, 50)), name="workflow_entries_bounded"),
        ]
        permissions = [("run_workflow", "Can run, activate and pause workflows")]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def midnight_before(self, instant: datetime) -> datetime:
        """When the day of ``instant`` began where the workflow is at home."""
        return instant.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)


class DigestKind(models.TextChoices):
    UPDATE = "update", _("Update: what is new")
    SUMMARY = "summary", _("Summary of the day")


class Cadence(models.Model):
    """One rhythm of a workflow. ``next_run_at`` is the due row that the clock reads."""

    class Pattern(models.TextChoices):
        EVERY = "every", _("Every N minutes")
        DAILY = "daily", _("Daily at a time")

    class Days(models.TextChoices):
        WEEKDAYS = "weekdays", _("Monday to Friday")
        ALL = "all", _("Every day")

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="cadences")
    digest_kind = models.CharField(_("digest"), max_length=10, choices=DigestKind, default=DigestKind.UPDATE)
    pattern = models.CharField(_("pattern"), max_length=10, choices=Pattern, default=Pattern.EVERY)
    every_minutes = models.PositiveSmallIntegerField(
        _("minutes"), default=120, validators=[MinValueValidator(1), MaxValueValidator(1440)]
    )
    window_start = models.TimeField(_("from"), default=time(9, 0))
    window_end = models.TimeField(_("until"), default=time(18, 0))
    at = models.TimeField(_("at"), default=time(18, 0))
    days = models.CharField(_("days"), max_length=10, choices=Days, default=Days.WEEKDAYS)
    enabled = models.BooleanField(_("enabled"), default=True)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False, db_index=True)

    class Meta:
        verbose_name = _("cadence")
        verbose_name_plural = _("cadences")
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(every_minutes__range=(1, 1440)),
                name="cadence_minutes_bounded",
                violation_error_message=_("Between 1 and 1440 minutes."),
            ),
            models.CheckConstraint(
                condition=models.Q(window_start__lte=models.F("window_end")),
                name="cadence_window_ordered",
                violation_error_message=_("The window's end lies before its start."),
            ),
        ]

    def __str__(self) -> str:
        days = self.get_days_display()
        if self.pattern == self.Pattern.DAILY:
            return f"{days} · {self.at:%H:%M}"
        rhythm = _("every %(count)d minutes") % {"count": self.every_minutes}
        return f"{days} · {self.window_start:%H:%M}-{self.window_end:%H:%M} · {rhythm}"

    @property
    def rule(self) -> cadence.Rule:
        pattern: cadence.Every | cadence.Daily
        if self.pattern == self.Pattern.DAILY:
            pattern = cadence.Daily(at=self.at)
        else:
            pattern = cadence.Every(minutes=self.every_minutes, start=self.window_start, end=self.window_end)
        weekdays = frozenset(range(5)) if self.days == self.Days.WEEKDAYS else frozenset(cadence.WEEKDAYS)
        return cadence.Rule(pattern=pattern, weekdays=weekdays, zone=self.workflow.zone)
