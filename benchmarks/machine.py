"""What the figures were taken on, and with which versions."""

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.brokers import mosquitto_program

PACKAGES = ("paho-mqtt", "pydantic", "SQLAlchemy", "httpx", "amqtt")


def machine(directory: Path) -> dict[str, str]:
    """Processor, kernel, and the filesystem under the directory in which everything is kept."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(directory),
    }


def versions() -> dict[str, str]:
    """Of everything that the figures depend on."""
    return {
        "kkt-bridge": version("kkt-bridge"),
        "python": platform.python_version(),
        "mosquitto": _mosquitto(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(directory: Path) -> str:
    """Its kind: that of the longest mount point above the directory."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    above = [(point, kind) for _, point, kind, *_ in mounts if directory.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def _mosquitto() -> str:
    told = subprocess.run([mosquitto_program(), "-h"], capture_output=True, text=True, timeout=10, check=False)
    return told.stdout.partition("\n")[0].removeprefix("mosquitto version ").strip()
