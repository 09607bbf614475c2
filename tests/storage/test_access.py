"""What a group may do with a folder, by HDFS's rules; tests/registry/test_permissions.py asks a NameNode the same."""

import pytest

from dkeras_core.storage import FileStatus
from dkeras_core.storage.access import group_may, symbolic, writers


def folder(mode, group="ops"):
    return FileStatus("/f", True, 0, 0.0, "ann", mode, group)


@pytest.mark.parametrize(
    ("mode", "group", "acl", "expected"),
    [
        (0o775, "ops", None, True),
        (0o775, "other", None, False),
        (0o757, "other", None, True),
        (0o757, "ops", None, False),  # its group is asked first, and others are not asked any more
        (0o1775, "ops", [], True),
        (0o775, "ops", ["group::r-x", "group:pub:rwx"], False),  # 7 is the mask
        (0o775, "pub", ["group::r-x", "group:pub:rwx"], True),
        (0o755, "pub", ["group::r-x", "group:pub:rwx"], False),  # masked
        (0o777, "pub", ["group::rwx", "group:pub:r-x"], False),
        (0o775, "ops", ["group::r-x", "group:ops:rwx"], True),  # one of two entries is enough
        (0o775, "pub", ["group::r-x", "user:pub:rwx"], False),
        (0o775, "ops", ["default:group::r-x", "default:group:ops:---"], True),  # only what is made below takes it over
        (0o775, "pub", ["default:group:pub:rwx"], False),
    ],
)
def test_a_group_may_write(mode, group, acl, expected):
    assert group_may(folder(mode), acl, group, "rwx") is expected


@pytest.mark.parametrize(
    ("mode", "acl", "expected"),
    [
        (0o755, None, set()),
        (0o1775, None, {"group:ops"}),
        (0o777, [], {"group:ops", "others"}),
        (0o775, ["group::r-x", "group:pub:rwx", "user:bob:-w-", "user:eve:r-x"], {"group:pub", "user:bob"}),
        (0o755, ["group::rwx", "user:bob:rwx"], set()),
        (0o757, ["default:user:bob:rwx"], {"others"}),
    ],
)
def test_who_may_write(mode, acl, expected):
    assert writers(folder(mode), acl) == expected


def test_rights_in_hdfs_notation():
    assert (symbolic("wr"), symbolic("x"), symbolic("r-x"), symbolic("")) == ("rw-", "--x", "r-x", "---")
