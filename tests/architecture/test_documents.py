"""What is not documented does not exist for whoever runs the product."""

import re
from typing import Any

import pytest
import yaml
from django.conf import settings

from compliance_bot.guardrails import policy
from workflows import actions, channels, sources

ROOT = settings.BASE_DIR


def test_every_variable_that_is_read_is_documented() -> None:
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "compliance_bot" / "settings.py").read_text("utf-8")))
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "configuration.md").read_text("utf-8"), re.MULTILINE))
    assert read - told == set()


def test_every_key_of_the_policy_is_documented() -> None:
    sections: dict[str, Any] = policy._SCHEMA["properties"]["security"]["properties"]
    keys = {f"{section}.{key}" for section, schema in sections.items() for key in schema["properties"]}
    told = set(
        re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", (ROOT / "docs" / "policy.md").read_text("utf-8"), re.MULTILINE)
    )
    assert keys == told


def test_the_shipped_policy_uses_documented_keys_only() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "policy.yaml").read_text("utf-8"))
    assert set(shipped["security"]) <= set(policy._SCHEMA["properties"]["security"]["properties"])


@pytest.mark.parametrize("package", [sources, channels, actions])
def test_each_file_of_a_package_of_adapters_is_one_adapter(package: Any) -> None:
    files = {path.stem for path in (ROOT / package.__name__.replace(".", "/")).glob("*.py")} - {"__init__"}
    homes = [type(adapter).__module__.rsplit(".", 1)[1] for adapter in package.registry]
    assert sorted(homes) == sorted(files)


def test_every_link_in_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "deploy" / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_file_names_a_place_of_one_machine() -> None:
    """Absolute paths of somebody's home or checkout have no business in the repository."""
    suspicious = re.compile(r"/(?:home|root|Users|work)/\w")
    for folder in ("compliance_bot", "workflows", "audit", "templates", "docs", "deploy"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".md", ".html", ".txt", ".toml", ".yaml", ".service", ".conf"}:
                assert not suspicious.search(path.read_text("utf-8")), path
