"""Passwords in what commands print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.masking import masked


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("| adminPass | nB7xYq2 |", "| adminPass | *** |"),
        ("connection = mysql://nova:s3cr3t@db/nova", "connection = mysql://nova:***@db/nova"),
        ("-rabbit_password = guest1", "-rabbit_password = ***"),
        ('"password": "x y"', '"password": *** y"'),
        ("Updated: openstack-nova-api.noarch", "Updated: openstack-nova-api.noarch"),
        ("the operator with token 17 has taken over", "the operator with token 17 has taken over"),
    ],
)
def test_passwords_are_stars_and_the_rest_is_as_it_was(said: str, kept: str):
    assert masked(said) == kept


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_masking_twice_changes_no_more(said: str):
    assert masked(masked(said)) == masked(said)
