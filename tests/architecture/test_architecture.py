"""Rules about the layout of the repository, checked against its files."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.applications.registry import SHIPPED, job_tables
from models.job_tables.rendering import types
from pipelines.job_types import JOB_TYPES
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from pipelines.storage.backends import BACKENDS
from workers.periodic.registry import periodic_tasks

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "models", "pipelines", "workers")
LOG_CALL = re.compile(r'log\.(?:debug|info|warning|error|exception)\(\s*"([a-z_]+)"')
ENTRY_POINTS = (
    *("workers.main", "workers.process.worker", "workers.process.scheduler", "workers.dashboard"),
    *("workers.cli", "workers.demo"),
)


def source_files() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_every_logged_event_stands_in_the_docs_and_the_reverse():
    logged = {event for path in source_files() for event in LOG_CALL.findall(path.read_text())}
    rows = [line for line in (ROOT / "docs/events.md").read_text().splitlines() if line.startswith("| `")]
    documented = {event for row in rows for event in re.findall(r"`([a-z_]+)`", row.split("|")[1])}

    assert logged == documented


def attributes_read(path: Path, methods: set[str] | None = None) -> set[str]:
    tree = ast.parse(path.read_text())
    roots = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in (methods or ())]
    found = (node for root in (roots if methods else [tree]) for node in ast.walk(root))
    return {node.attr for node in found if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def test_every_setting_is_read_by_something_that_carries_it_out():
    declarations = {
        ROOT / "config/settings.py",
        *(ROOT / "config").glob("*_settings.py"),
        *(ROOT / "pipelines/providers").glob("*/description.py"),
        ROOT / "pipelines/settings.py",
    }
    read = {name for path in source_files() if path not in declarations for name in attributes_read(path)}
    # what settings hand on by another name; their validators only look
    read |= attributes_read(ROOT / "config/money_settings.py", {"regeneration_terms"})
    read |= attributes_read(ROOT / "config/process_settings.py", {"fair_terms"})
    read |= attributes_read(ROOT / "pipelines/settings.py", {"providers"})

    assert set(Settings.model_fields) - read == set()


def test_every_stage_on_disk_is_in_a_job_type():
    on_disk = {path.stem for path in (ROOT / "pipelines/stages").glob("*.py")} - {"__init__", "objects", "results"}
    functions = {stage.run.imported() for kind in JOB_TYPES.values() for stage in kind.stages}
    registered = {function.__module__.rsplit(".", 1)[-1] for function in functions}

    assert on_disk == registered


def test_every_application_on_disk_is_shipped():
    on_disk = {path.parent.name for path in (ROOT / "models/applications").glob("*/application.py")}

    assert on_disk == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_type_of_a_job_table_has_stages_and_begins_at_the_first(name):
    tables = SHIPPED[name]("public").tables
    first = {one: table.first_stage for table in tables for one in table.job_types}

    assert first == {one: f"'{JOB_TYPES[one.rpartition('.')[2]].stages[0].name}'" for one in first}


def test_every_provider_on_disk_is_registered():
    on_disk = {path.name for path in (ROOT / "pipelines/providers").iterdir() if (path / "provider.py").exists()}

    assert on_disk == set(PROVIDERS)


def test_every_storage_backend_on_disk_is_registered():
    on_disk = {path.stem for path in (ROOT / "pipelines/storage").glob("*.py")} - {"__init__", "storage", "backends"}

    assert on_disk == set(BACKENDS)


def test_every_periodic_task_on_disk_is_registered():
    on_disk = {path.stem for path in (ROOT / "workers/periodic/tasks").glob("*.py")} - {"__init__"}
    registered = {task.chunk.__module__.rsplit(".", 1)[-1] for task in periodic_tasks(Settings())}

    assert on_disk == registered


@pytest.mark.parametrize("path", [ROOT / package / "__init__.py" for package in PACKAGES], ids=PACKAGES)
def test_package_init_holds_a_docstring_and_no_imports(path):
    assert "import " not in re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)


def test_entry_points_are_imported_by_nobody():
    importers = {}
    for path in source_files():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for entry in ENTRY_POINTS:
            # the command line starts processes and the demo prints as it does; workers.main is a name for one of them
            if module.startswith(("workers.cli", "workers.demo", entry)) or module == "workers.main":
                continue
            if re.search(rf"^(from|import) {re.escape(entry)}\b", path.read_text(), flags=re.MULTILINE):
                importers[module] = entry

    assert importers == {}


def test_no_other_distribution_provides_our_packages():
    providers = importlib.metadata.packages_distributions()

    assert {name: set(providers.get(name, ())) - {"darkroom"} for name in PACKAGES} == {
        name: set() for name in PACKAGES
    }


def test_files_stay_within_the_house_size():
    too_long = {
        str(path.relative_to(ROOT)): length
        for folder, limit in (*((package, 400) for package in PACKAGES), ("tests", 600))
        for path in (ROOT / folder).rglob("*.py")
        if "versions" not in path.parts and (length := len(path.read_text().splitlines())) > limit
    }

    assert too_long == {}


SQL = re.compile(
    r"\b(?:SELECT\s+\S|INSERT\s+INTO\s|DELETE\s+FROM\s|UPDATE\s+\S+(?:\s+(?:AS\s+)?\w+)?\s+SET\s"
    r"|WITH\s+(?:RECURSIVE\s+)?\w+\s*(?:\([^)]*\)\s*)?AS\s|EXISTS\s*\(|TRUNCATE\s+\S|LOCK\s+TABLE\s"
    r"|(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|INDEX|FUNCTION|TRIGGER|TYPE)\s|SHOW\s+\w+$"
    r"|SET\s+(?:LOCAL|CONSTRAINTS)\s|^\s*(?:UN)?(?:LISTEN|NOTIFY)\s+\w+\s*$)"
)


def sql_in(source: str) -> list[tuple[int, str]]:
    """Return the strings of a module in which SQL stands, with their lines; docstrings are for people."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    skipped |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    # a string after an assignment documents it
    skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            text = node.value
        else:
            continue
        if SQL.search(text):
            found.append((node.lineno, text))
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "\n-- why\nSELECT q.*\nFROM darkroom.job_queue q",
        "INSERT INTO darkroom.settings VALUES (1)",
        "UPDATE darkroom.job_queue q SET ready = true",
        "UPDATE public.users AS u SET x = 1",
        "DELETE FROM darkroom.objects o",
        "WITH RECURSIVE names (x) AS (VALUES (1)) TABLE names",
        "WITH old AS MATERIALIZED (VALUES (1)) TABLE old",
        "t.processed AND NOT EXISTS (SELECT FROM darkroom.job_queue q)",
        "SHOW server_version",
        "SET LOCAL lock_timeout = 5",
        "LISTEN darkroom_jobs",
    ],
)
@pytest.mark.parametrize("form", ["SQL = {!r}", "run(f{!r})", "def f():\n    return {!r} + x"])
def test_sql_in_a_string_is_found(statement, form):
    assert len(sql_in(form.format(statement))) == 1


@pytest.mark.parametrize(
    "text", ["select a file", "started with a lease", "set aside", "an update of the row", "Update it", "SELECT"]
)
def test_words_for_people_are_no_sql(text):
    assert sql_in(f"log({text!r})") == []


def test_no_sql_stands_in_workers():
    paths = (ROOT / "workers").rglob("*.py")

    assert {str(path.relative_to(ROOT)): sql for path in paths if (sql := sql_in(path.read_text()))} == {}


MAY_NAME_JOB_TABLES = {
    "models/applications/": "the descriptions, and tables of `pictures`, which db upgrade makes where there are none",
    "models/schema/migrations/": "what adoption asks of these tables, and revisions, which are frozen",
    "models/queue/submit.sql": "submit_enhancement and submit_generation are the application's own way in",
    "models/queue/batches.sql": "albums are the application's own, and their pictures are enhanced",
    "models/queue/submit_checks.sql": "what these two ask of their arguments",
    "models/queue/entering.sql": "fill_pipeline is the application's own, and its description names it",
    "config/periodic_terms.py": "refused in a setting before there is a database; retention adds every job table",
    "models/queue/retrying.py": "submits again by the application's own functions",
    "workers/running/translation.py": "knows outputs of stages by columns",
    "pipelines/job.py": "a word in a docstring",
}


def test_job_tables_are_named_by_their_descriptions_only():
    names = {table.relation for table in job_tables()} | {"ENHANCEMENTS", "GENERATIONS"}
    naming = re.compile(rf"\b({'|'.join(names)})\b")
    files = [path for package in PACKAGES for suffix in ("py", "sql") for path in (ROOT / package).rglob(f"*.{suffix}")]
    found = {str(path.relative_to(ROOT)) for path in files if naming.search(path.read_text())}

    assert {path for path in found if not path.startswith(tuple(MAY_NAME_JOB_TABLES))} == set()


def test_nothing_chooses_a_job_table_by_a_list_of_types():
    lists = re.compile("|".join(re.escape(f"({types(table)})") for table in job_tables()))
    files = [path for package in PACKAGES for suffix in ("py", "sql") for path in (ROOT / package).rglob(f"*.{suffix}")]

    assert [str(path) for path in files if lists.search(path.read_text())] == []


def imported_of(names, module):
    """Return which of some modules another one imports."""
    code = f"import sys, {module}; print(*sorted(set({names!r}) & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_command_line_starts_without_heavy_imports():
    assert imported_of(["cv2", "numpy", "sqlalchemy", "PIL"], "workers.cli.app") == []


def test_worker_runs_stages_and_opens_providers_without_what_only_others_need():
    modules = ["workers.process.worker", "pipelines.stages.crop", "pipelines.stages.generate"]
    modules += [f"pipelines.providers.{name}.provider" for name in ("local", "gemini", "openai")]

    # numpy and OpenCV are for pixel children, alembic for migrations, boto3 for storage in S3
    assert imported_of(["numpy", "cv2", "alembic", "boto3"], ", ".join(modules)) == []
