from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.workflow import Workflow


class DigestFeed(models.Model):
    """A workflow's digests for machines. Of the token that opens it only the SHA-256 is kept."""

    workflow = models.OneToOneField(Workflow, on_delete=models.CASCADE, related_name="feed")
    token_sha256 = models.CharField(max_length=64, editable=False)
    made_at = models.DateTimeField(_("made"))

    def __str__(self) -> str:
        return f"{self.workflow}"
