"""A private certificate authority for the tests of this folder."""

import pytest
from support.hostile_ofd import make_authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))
