import errno
import gzip
import io
import os
import tarfile

import pytest

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.archive import explain_full_disk
from envs.builder.gzipped import BLOCK, ParallelGzip
from envs.builder.pack import write_archive


def silent(fraction, detail):
    pass


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "lib" / "empty").mkdir(parents=True)
    (root / "bin" / "tool").write_text("#!/bin/sh\n")
    (root / "bin" / "tool").chmod(0o700)
    (root / "bin" / "link").symlink_to("tool")
    (root / "lib" / "big").write_bytes(os.urandom(3 * BLOCK + 17) + b"a" * BLOCK)
    return root


def packed(tree, workers=3):
    file = io.BytesIO()
    write_archive(tree, file, workers, silent)
    return file.getvalue()


def test_the_same_content_gives_the_same_bytes(tree):
    first = packed(tree)
    for path in tree.rglob("*"):
        os.utime(path, (5, 5), follow_symlinks=False)
    (tree / "lib" / "big").chmod(0o600)
    assert packed(tree, workers=1) == first
    (tree / "lib" / "big").write_bytes(b"changed")
    assert packed(tree) != first


def test_every_member_is_readable_by_all_and_owned_by_nobody_in_particular(tree, tmp_path):
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as tar:
        members = {member.name: member for member in tar}
        tar.extractall(tmp_path / "out", filter="data")
    assert list(members) == ["bin", "bin/link", "bin/tool", "lib", "lib/big", "lib/empty"]
    assert members["bin/tool"].mode == 0o755 and members["lib/big"].mode == 0o644
    assert members["bin/link"].linkname == "tool"
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members.values()} == {
        (0, 0, "", 1577836800)
    }
    assert (tmp_path / "out/lib/big").read_bytes() == (tree / "lib" / "big").read_bytes()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK])
def test_parallel_gzip_is_one_ordinary_member(size):
    import zlib

    data = (os.urandom(1000) * (size // 1000 + 1))[:size]
    file = io.BytesIO()
    zipped = ParallelGzip(file, 4, 3)
    for start in range(0, size, 700_001):
        zipped.write(data[start : start + 700_001])
    zipped.close()
    assert gzip.decompress(file.getvalue()) == data
    reader = zlib.decompressobj(31)
    assert reader.decompress(file.getvalue()) == data
    assert reader.eof and reader.unused_data == b""


def test_a_block_refers_to_the_one_before():
    noise = os.urandom(20_000)  # repeats further apart than a block boundary only
    data = noise * (2 * BLOCK // len(noise))
    file = io.BytesIO()
    zipped = ParallelGzip(file, 9, 2)
    zipped.write(data)
    zipped.close()
    assert len(file.getvalue()) < len(gzip.compress(data, 9)) + len(noise) / 10


def test_a_full_disk_is_named_with_what_is_needed_and_free(tree, tmp_path):
    with (
        pytest.raises(EnvironmentBuildError, match=r"disk is full.*5,000,000,000 bytes.*[\d,]+ are free") as caught,
        explain_full_disk(tmp_path),
        open("/dev/full", "wb") as full,
    ):
        write_archive(tree, full, 2, silent)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_other_errors_of_the_system_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")
