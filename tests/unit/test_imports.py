"""Who may import whom: the table of docs/explanation/architecture.md, enforced."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "app" / "dist_test"
AUTOSCALER = ROOT / "autoscale" / "dist_test_autoscale"

# package: (packages of ours, third parties). The first entry that names a module's place counts.
RULES: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "model": ({"errors"}, set()),
    "settings": ({"errors"}, set()),
    "logs": ({"errors"}, set()),
    "connections": (set(), {"gunicorn"}),
    "serving": ({"connections"}, {"gunicorn", "prometheus_client"}),
    "storage": (
        {"model", "settings", "errors"},
        {"sqlalchemy", "pymysql", "alembic", "greenstalk", "boto3", "botocore", "types_boto3_s3", "urllib3"},
    ),
    "isolate.notice": ({"storage.results", "errors"}, set()),
    "isolate.prune": ({"isolate", "storage", "settings", "errors"}, set()),
    "isolate.store": ({"isolate", "storage.results", "settings", "errors"}, set()),
    "isolate.server": (
        {"isolate", "storage.results", "settings", "errors"},
        {"flask", "werkzeug", "itsdangerous", "prometheus_client", "gunicorn"},
    ),
    "isolate.server_metrics": ({"isolate", "serving", "errors"}, {"flask", "prometheus_client"}),
    "isolate.command": ({"isolate", "storage.results", "serving", "settings", "errors", "logs"}, set()),
    "isolate": ({"isolate", "errors", "settings"}, {"requests", "urllib3"}),
    "running": ({"model", "isolate", "settings", "errors"}, set()),
    "master": (
        {"model", "storage", "serving", "settings", "logs", "errors"},
        {"flask", "flask_httpauth", "werkzeug", "itsdangerous", "prometheus_client", "jinja2", "markupsafe"},
    ),
    "slave": (
        {"model", "storage", "running", "isolate", "settings", "logs", "errors"},
        {"requests", "prometheus_client"},
    ),
    "cli": ({"model", "running", "isolate", "settings", "errors"}, {"click", "rich", "requests"}),
    "local": (
        {"model", "storage", "running", "isolate", "settings", "logs", "errors", "master", "slave", "cli"},
        {"click", "rich", "requests"},
    ),
    "dist_test_autoscale.gce": (
        {"settings", "logs", "errors"},
        {"googleapiclient", "google", "google_auth_httplib2", "httplib2"},
    ),
    "dist_test_autoscale": ({"settings", "logs", "errors", "model", "storage"}, {"prometheus_client"}),
}
# What decides does neither input nor output: it imports these alone, and the standard library's arithmetic.
PURE = {
    *("catalog", "settings", "documents", "snapshot", "state"),
    *("demand", "fleet", "repair", "growth", "shrink", "decision", "policy"),
}
PURE_STANDARD = frozenset(
    {"collections", "dataclasses", "difflib", "enum", "math", "pathlib", "re", "tomllib", "typing", "urllib"}
)
SERVER_SIDE = {
    "isolate.store",
    "isolate.notice",
    "isolate.prune",
    "isolate.server",
    "isolate.server_metrics",
    "isolate.command",
}


def _modules() -> list[Path]:
    ours = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
    return [*ours, *sorted(AUTOSCALER.rglob("*.py"))]


def _name(path: Path) -> str:
    base = PACKAGE if path.is_relative_to(PACKAGE) else AUTOSCALER.parent
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rule(name: str) -> tuple[set[str], set[str]]:
    place = next(place for place in RULES if name == place or name.startswith(f"{place}."))
    return RULES[place]


def _is_allowed(imported: str, own: str, rule: tuple[set[str], set[str]], standard: frozenset[str]) -> bool:
    ours, others = rule
    top, _, rest = imported.partition(".")
    if top == "dist_test_autoscale":
        return own.split(".")[0] == top
    if top != "dist_test":
        return top in standard or top in others
    if rest in ("", "__version__") or rest.split(".")[0] == own.split(".")[0]:
        return True
    return any(rest == place or rest.startswith(f"{place}.") for place in ours)


@pytest.mark.parametrize("path", [path for path in _modules() if _name(path)], ids=_name)
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    name = _name(path)
    rule = _rule(name)
    wrong = [found for found in _imports(path) if not _is_allowed(found, name, rule, sys.stdlib_module_names)]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(PURE))
def test_what_the_autoscaler_decides_with_is_pure(name: str) -> None:
    own = f"dist_test_autoscale.{name}"
    rule: tuple[set[str], set[str]] = ({"errors"}, set())
    found = set(_imports(AUTOSCALER / f"{name}.py"))
    assert [one for one in found if not _is_allowed(one, own, rule, PURE_STANDARD)] == []
    ours = {one.split(".")[1] for one in found if one.startswith("dist_test_autoscale.")}
    assert ours - PURE == set()


@pytest.mark.parametrize("path", [path for path in _modules() if _name(path).startswith("cli")], ids=_name)
def test_the_command_line_never_imports_the_isolate_servers_side(path: Path) -> None:
    found = {f"isolate.{name.split('.')[2]}" for name in _imports(path) if name.startswith("dist_test.isolate.")}
    assert found & SERVER_SIDE == set()


def test_statements_are_of_a_dialect_that_mysql_knows_too() -> None:
    """What only MariaDB knows: architecture.md, "Choices already made"."""
    texts = [path.read_text().upper() for path in (PACKAGE / "storage").rglob("*.py")]
    only_mariadb = (" RETURNING ", "CREATE SEQUENCE", "NEXT VALUE FOR", "CREATE OR REPLACE TABLE", " IF NOT EXISTS (")
    assert [word for word in only_mariadb for text in texts if word in text and "CREATE TABLE IF" not in word] == []
