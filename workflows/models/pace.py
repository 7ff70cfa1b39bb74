from django.db import models


class SendSlot(models.Model):
    """Calls under a limit, each counted until a window after its end; these rows are the limiter."""

    lane = models.CharField(max_length=40)
    calls = models.PositiveSmallIntegerField(default=1)
    held_until = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["lane", "held_until"], name="slot_lane")]

    def __str__(self) -> str:
        return f"{self.lane} {self.held_until:%H:%M:%S}"
