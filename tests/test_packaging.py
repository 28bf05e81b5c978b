"""The wheel in an empty environment: the bridge alone, and with the embedded broker for the demo."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "kkt_bridge")
ONLY_WITH_BROKER = ("amqtt", "argon2", "typer", "websockets")
INSTALL_TIMEOUT_S = 300.0
RUN_TIMEOUT_S = 100.0


def output_of(*command, cwd, timeout_s=RUN_TIMEOUT_S):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_command_whose_library_is_missing_names_the_library():
    without_h11 = (
        "import sys; sys.modules['h11'] = None; sys.argv = ['kkt-bridge', 'doctor', '--help'];"
        "from kkt_bridge.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_h11], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert "h11" in done.stderr.splitlines()[-1]


@pytest.mark.campaign
@pytest.mark.timeout(3 * INSTALL_TIMEOUT_S)
def test_the_wheel_runs_without_the_broker_and_with_it_the_demo(tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, sources / name)
    output_of(sys.executable, "-m", "venv", "venv", cwd=tmp_path, timeout_s=INSTALL_TIMEOUT_S)
    python = str(tmp_path / "venv" / "bin" / "python")
    bridge = str(tmp_path / "venv" / "bin" / "kkt-bridge")

    def pip(*arguments):
        pinned = ("-c", str(ROOT / "constraints.txt"))
        output_of(
            python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments, *pinned, cwd=tmp_path,
            timeout_s=INSTALL_TIMEOUT_S,
        )  # fmt: skip

    pip("wheel", "--no-deps", "-w", "dist", str(sources))
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    pip("install", str(wheel))
    assert output_of(bridge, "--version", cwd=tmp_path).strip()
    output_of(bridge, "schemas", "--out", "schemas", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "schemas").iterdir()} == {
        path.name for path in (ROOT / "schemas").iterdir()
    }
    output_of(python, "-c", "import kkt_bridge.cli.run, kkt_bridge.runtime.wiring", cwd=tmp_path)
    asked = (
        "from importlib.util import find_spec; import sys; print([name for name in sys.argv[1:] if find_spec(name)])"
    )
    assert output_of(python, "-c", asked, *ONLY_WITH_BROKER, cwd=tmp_path).strip() == "[]"
    for command in ("broker", "demo"):
        refused = subprocess.run(
            [bridge, command], cwd=tmp_path, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
        )
        install = f"{python} -m pip install 'kkt-bridge[broker]'"
        said = f"kkt-bridge: the embedded broker is not installed: {install}\n"
        assert (refused.returncode, refused.stderr) == (1, said)
    (installed,) = (tmp_path / "venv").glob("lib/python*/site-packages/kkt_bridge")
    assert (installed / "py.typed").exists()

    pip("install", f"{wheel}[broker]")
    counted = json.loads(output_of(bridge, "demo", "--json", "--receipts", "30", cwd=tmp_path))
    assert (counted["published"], counted["printed"], counted["ofd_documents"]) == (30, 30, 30)
