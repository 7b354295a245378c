"""`--limit`: nodes, groups, ranges, exclusions."""

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.cloud.select import select
from cellstep.errors import UsageError
from tests.support import clouds


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    return load_cloud(clouds.write(tmp_path_factory.mktemp("cloud")))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("c01-n05", "c01-n05"),
        ("c01-n[01-03]", "c01-n[01-03]"),
        ("c02-n[1,9-10], top-db01", "c02-n[1,9-10],top-db01"),
        ("top", "top-ctl[01-02],top-db01"),
        ("controller", "c[01-02]-ctl01,top-ctl[01-02]"),
        ("budapest,!compute", "c02-ctl01"),
        ("!compute,budapest", "c02-ctl01"),
        ("!compute,!top", "c[01-02]-ctl01"),
        ("all,!compute,!top", "c[01-02]-ctl01"),
        ("cell[01-02],!compute", "c[01-02]-ctl01"),
        ("compute,!c01-n[01-10],!c02-n[2-10]", "c02-n1"),
        ("c01-n01,c01-n01,cell01,!c01-n[02-10]", "c01-ctl01,c01-n01"),
    ],
)
def test_expressions(cloud, expression, names):
    chosen = [node.name for node in select(cloud, expression)]
    assert cloud.fold(chosen) == cloud.fold(sorted(set(chosen))) == names
    assert chosen == [node.name for node in cloud.nodes if node.name in chosen], "in the cloud's order"


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("", "an empty range"),
        ("c01-n01,", "an empty range"),
        ("!", "an empty range"),
        ("c01-n99", "'c01-n99' is neither a node nor a group of test; did you mean 'c01-n"),
        ("c01-n[09-11]", "'c01-n11' is neither"),
        ("contoller", "did you mean 'controller'?"),
        ("nothing-like-it-at-all", "`cellstep inventory` shows them"),
        ("top,!top", "'top,!top' matches no node of test"),
        ("c01-n[10-", "malformed range"),
        ("*", "not a node's name"),
    ],
)
def test_what_means_nobody_is_refused(cloud, expression, hint):
    with pytest.raises(UsageError) as caught:
        select(cloud, expression)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2
