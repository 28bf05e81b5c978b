"""The shape of the program: who may import whom, who may see the environment, how large things may grow."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kkt_bridge"
MODULES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES_MAX = 750
FUNCTION_LINES_MAX = 70
ENVIRONMENT_NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
ENVIRONMENT_READER = PACKAGE / "settings.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def environment_uses(tree: ast.AST) -> Iterator[int]:
    """The lines that touch the process environment: `os.environ` and its like, by either import."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in ENVIRONMENT_NAMES:
                yield node.lineno
            case ast.ImportFrom(module="os", names=names) if ENVIRONMENT_NAMES & {alias.name for alias in names}:
                yield node.lineno


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_imports_keep_the_contracts() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_module_outgrows_one_reason_to_change() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert [f"{where(path, size)} lines" for path, size in sizes.items() if size > MODULE_LINES_MAX] == []


def test_no_function_outgrows_a_screen() -> None:
    offenders = [
        f"{where(path, function.lineno)} {function.name}: {size} lines"
        for path in MODULES
        for function in functions(parsed(path))
        if (size := lines_of(function)) > FUNCTION_LINES_MAX
    ]
    assert offenders == []


def test_only_the_settings_see_the_environment() -> None:
    readers = [path for path in MODULES if path != ENVIRONMENT_READER]
    assert [where(path, line) for path in readers for line in environment_uses(parsed(path))] == []


@pytest.mark.parametrize(
    "text", ["import os\nos.environ.get('X')", "from os import getenv", "import os\nos.getenv('X')"]
)
def test_the_look_for_the_environment_finds_it(text: str) -> None:
    assert list(environment_uses(ast.parse(text)))


def test_the_whole_package_is_looked_at() -> None:
    assert PACKAGE / "receipts" / "model.py" in MODULES
    assert list(environment_uses(parsed(ENVIRONMENT_READER)))


def test_an_installed_copy_has_every_file_that_is_no_module() -> None:
    """A copy made by `make install` has what pyproject.toml names; a checkout has everything, and would not notice."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = {
        file
        for package, patterns in config["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    others = (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"})
    assert sorted(others) == sorted(named)
