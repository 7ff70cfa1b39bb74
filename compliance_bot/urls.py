from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from compliance_bot import health, sandbox_door
from workflows import callbacks, feeds

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("sandbox/", sandbox_door.enter),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("i18n/", include("django.conf.urls.i18n")),
    path("feeds/workflows/<int:pk>/digests.atom", feeds.digests, {"form": "atom"}),
    path("feeds/workflows/<int:pk>/digests.json", feeds.digests, {"form": "json"}),
    path("wecom/<slug:app>/callback", callbacks.callback),
    path("admin/", admin.site.urls),
]
