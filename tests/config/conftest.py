import pytest

from tests.helpers.configuration import read


@pytest.fixture
def config() -> dict:
    """The whole configuration without an overlay."""
    return {
        key: value
        for name in ("config.yaml", "recipes.yaml", "experiments.yaml", "paper.yaml")
        for key, value in read(name).items()
    }
