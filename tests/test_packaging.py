"""What pyproject.toml promises of the distributions."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Imported only where a site has it already.
OPTIONAL = {"gevent", "pytest", "pytest-django", "uvloop", "eventlet", "trio", "sniffio"}


def imported_packages():
    for path in (ROOT / "faststream_django").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


def distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_every_package_that_is_imported_is_a_dependency():
    declared = {distribution(each) for each in PROJECT["project"]["dependencies"]}
    foreign = set(imported_packages()) - sys.stdlib_module_names - {"faststream_django"}
    distributions = packages_distributions()

    needed = {distributions[name][0].lower().replace("_", "-") for name in foreign if name in distributions}

    assert needed - OPTIONAL <= declared


@pytest.mark.parametrize(
    "name", ["scripts", "tests", "docs", "benchmarks", "example_project", ".ci", "Makefile"]
)
def test_what_the_makefile_runs_is_in_the_source_distribution(name):
    assert f"/{name}" in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert (ROOT / name).exists()
