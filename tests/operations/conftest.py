"""An office to order things at; at its end its books must add up."""

import pytest
from operations.office import Office
from support.stages import check_counts, mend_disk


@pytest.fixture
def open_office(tmp_path):
    offices = []

    def opened(**settings):
        offices.append(Office(tmp_path, **settings))
        return offices[-1]

    yield opened
    for office in offices:
        mend_disk(office.shop.journal)
        check_counts(office.shop.journal, office.shop.folder)
        office.close()


@pytest.fixture
def office(open_office):
    return open_office()
