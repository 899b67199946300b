"""What README and docs say of the project is there: tests, files, anchors, checks."""

import ast
import re
from pathlib import Path

import pytest

from faststream_django.conf import entries

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page):
    return str(page.relative_to(ROOT))


def functions(module):
    return {
        node.name for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_a_page_names_exist(page):
    for path, test in re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", page.read_text()):
        assert (ROOT / path).is_file(), path
        assert not test or test in functions(ROOT / path), test


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_can_be_compiled(page):
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(example, name(page), "exec")


def test_every_check_has_an_anchor():
    modules = (ROOT / "faststream_django").rglob("checks.py")
    ids = {
        each for path in modules for each in re.findall(r'id="(faststream_django\.\w+)"', path.read_text())
    }
    anchors = set(re.findall(r"^### (\S+)$", (ROOT / "docs/reference/checks.md").read_text(), re.MULTILINE))

    assert ids == anchors


def test_every_setting_is_in_the_reference():
    fields = entries.BrokerSettings.__dataclass_fields__.keys() - {"alias"}
    page = (ROOT / "docs/reference/settings.md").read_text()
    documented = {key.lower() for key in re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE)}

    assert documented - {"url", "password"} == fields - {"urls", "url_source"}
