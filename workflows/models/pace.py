from django.db import models


class SendSlot(models.Model):
    """A moment at which something was sent under a limit; the rows of the last minute are the limiter."""

    lane = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["lane", "at"], name="slot_lane")]

    def __str__(self) -> str:
        return f"{self.lane} {self.at:%H:%M:%S}"
