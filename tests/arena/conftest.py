import pytest

from tests.arena.parts import arena


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """One that is finished, and what it says."""
    one = arena(tmp_path_factory.mktemp("arena"))
    return one, one()


@pytest.fixture(scope="session")
def ring(played):
    return played[0].ring(0)
