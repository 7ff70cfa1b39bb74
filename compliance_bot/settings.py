"""The one settings file. The environment is the only variation; docs/configuration.md lists every variable."""

import os
from pathlib import Path

import django_stubs_ext
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from compliance_bot import env

BASE_DIR = Path(__file__).resolve().parent.parent

django_stubs_ext.monkeypatch()  # ModelAdmin[Workflow] and the like, as the type checker reads them

# Where everything lives that must survive an upgrade: database, keys, secrets. Default: inside the checkout.
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / "var")))

# "sandbox" brings a WeCom world on loopback; it is refused wherever the product could be reached from outside
# (compliance_bot.checks). Production is the default, so that nobody gets the sandbox by forgetting a variable.
ENVIRONMENT = env.choice("ENVIRONMENT", "production", ("production", "sandbox"))
SANDBOX = ENVIRONMENT == "sandbox"
SANDBOX_PORT = env.number("SANDBOX_PORT", 8001)
SANDBOX_URL = f"http://127.0.0.1:{SANDBOX_PORT}"

# One line a seal, outside the database; best on another disk or a share.
AUDIT_CHECKPOINT_FILE = Path(env.text("AUDIT_CHECKPOINT_FILE", str(DATA_DIR / "audit-checkpoints.jsonl")))
# Where events go that leave the searchable table; worth a disk of its own, and in every backup.
AUDIT_ARCHIVE_DIR = Path(env.text("AUDIT_ARCHIVE_DIR", str(DATA_DIR / "audit-archive")))
# Prepared exports wait here for their owners; reports stay until somebody takes them away.
AUDIT_EXPORT_DIR = Path(env.text("AUDIT_EXPORT_DIR", str(DATA_DIR / "exports")))
AUDIT_REPORT_DIR = Path(env.text("AUDIT_REPORT_DIR", str(DATA_DIR / "reports")))

DEBUG = False
SECRET_KEY = env.key("SECRET_KEY", DATA_DIR / "secret.key")
# Authenticates audit events until a seal covers them; never stored in the database.
AUDIT_KEY = env.key("AUDIT_KEY", DATA_DIR / "audit.key")
# Encrypts the erasable details of audit events.
AUDIT_PAYLOAD_KEY = env.key("AUDIT_PAYLOAD_KEY", DATA_DIR / "audit-payload.key")
# Where people reach the product, for links in mail; empty: mail names the page instead. `serve` sets it in the sandbox.
_PLAIN_HTTP_HOSTS = ("127.0.0.1", "localhost", "::1") if SANDBOX else ()
BASE_URL = env.web_address("BASE_URL", plain=_PLAIN_HTTP_HOSTS).rstrip("/")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]" if SANDBOX else "")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
POLICY_FILE = Path(env.text("POLICY_FILE", str(BASE_DIR / "deploy" / "policy.yaml")))

INSTALLED_APPS = [
    "compliance_bot.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "auditlog",
    "django_q",
    "compliance_bot.apps.ComplianceBotConfig",
    "audit.apps.AuditConfig",
    "workflows.apps.WorkflowsConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "audit.middleware.RequestContextMiddleware",
    "compliance_bot.middleware.one_policy_per_request",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "compliance_bot.urls"
WSGI_APPLICATION = "compliance_bot.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_sqlite: dict[str, object] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA_DIR / "db.sqlite3",
    "CONN_MAX_AGE": 60,
    "OPTIONS": {
        # Writers queue up front instead of failing half-way; readers never wait (write-ahead log).
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
    },
}
# Tests use several connections, like production; a database in memory is one connection's own.
_sqlite["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
_url = env.text("DATABASE_URL", "")
DATABASES = {"default": {**env.database(_url), "CONN_MAX_AGE": 60} if _url else _sqlite}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        # Shared by all processes without another service.
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
    }
}

# Retries belong to our own rows (docs/decisions/0002); the queue only carries hints. A task may wait behind
# queue_limit others per worker, so retry is far above timeout.
REDIS_URL = env.text("REDIS_URL", "")
Q_CLUSTER = {
    "name": "compliance-bot",
    **({"redis": REDIS_URL} if REDIS_URL else {"orm": "default"}),
    "workers": env.number("WORKERS", 2),
    "queue_limit": 2,
    "bulk": 1,
    "timeout": 60,
    "retry": 200,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": 0,
    "catch_up": False,
    "poll": 0.2,
    "log_level": "WARNING",
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# A form may be too long, and then says so at the field; beyond this it is no form.
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
LOGIN_URL = "admin:login"

AUDITLOG_LOGENTRY_MODEL = "audit.FieldChange"  # has no table: differences go to the trail
MIGRATION_MODULES = {"auditlog": None}  # its migrations would make its own table all the same
AUDITLOG_DISABLE_REMOTE_ADDR = True  # it trusts any X-Forwarded-For; the trail records the address itself

LANGUAGE_CODE = env.choice("LANGUAGE_CODE", "en", ("en", "zh-hans"))  # of what the system itself writes
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "compliance_bot" / "locale"]
FORMAT_MODULE_PATH = "compliance_bot.formats"
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "Asia/Shanghai")

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# Security of the browser side. Plain HTTP is acceptable on loopback only, which is where the sandbox lives.
_HTTPS = not SANDBOX
SECURE_SSL_REDIRECT = _HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _HTTPS
SECURE_HSTS_PRELOAD = _HTTPS
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if env.flag("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Whose X-Forwarded-For is believed (compliance_bot.guardrails.clients); nobody's unless it is named here.
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # the admin's own icons
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# The only private address that outgoing requests may reach, and only in the sandbox.
EGRESS_ALLOW = [f"127.0.0.1:{SANDBOX_PORT}"] if SANDBOX else []

# Where sealed audit events are told outside (docs/forwarding.md); empty: nowhere.
AUDIT_SYSLOG = env.receiver("AUDIT_SYSLOG", ("udp", "tcp", "tls"))
AUDIT_SYSLOG_CA = env.file("AUDIT_SYSLOG_CA")
AUDIT_FORWARD_URL = env.web_address("AUDIT_FORWARD_URL", plain=_PLAIN_HTTP_HOSTS)
AUDIT_FORWARD_TOKEN = env.header("AUDIT_FORWARD_TOKEN")
# Who is told of checkpoints and alarms: mail addresses, and the name of a channel.
AUDIT_MAIL = env.mail_addresses("AUDIT_MAIL", server="EMAIL_URL")
AUDIT_CHANNEL = env.text("AUDIT_CHANNEL", "")

HAS_MAIL_SERVER = bool(env.text("EMAIL_URL", ""))
vars().update(env.mail("EMAIL_URL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "compliance-bot@localhost")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"django-q": {"level": "WARNING"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
}
