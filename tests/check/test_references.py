"""The references that ship say all that a database needs to be made of them."""

import pytest

from cellstep import schemas
from tasks.differences import compare
from tasks.schemas import snapshot


@pytest.mark.mariadb
@pytest.mark.parametrize("name", [name for name in schemas.references() if name != "nova-161"])
def test_made_of_a_reference_and_described_again_it_is_the_same(name, made, task):
    """Each column, key and foreign key, on a real server."""
    made(name)
    assert compare(schemas.of_reference(name), snapshot(task, "checked")) == ()
