"""Tests about files of several users."""

import os

import pytest

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"),
    reason="only root can make files of another user; CI runs as root, and there they fail instead",
)
