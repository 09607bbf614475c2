import zipfile

import pytest

from dkeras_core.errors import ConfigError, PathExists
from dkeras_core.paths import Layout
from dkeras_core.storage.local import LocalStorage
from envs.builder.archive import Archive
from envs.builder.publish import upload, upload_spark_jars


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "train-0123456789abcdef.tar.gz"
    path.write_bytes(b"x" * 1000)
    path.chmod(0o600)
    return Archive(path, "0123456789abcdef", 1000)


@pytest.fixture
def layout(tmp_path):
    return Layout(str(tmp_path / "root"))


class Counting(LocalStorage):
    uploads = 0

    def upload(self, *arguments, **named):
        self.uploads += 1
        super().upload(*arguments, **named)


def names(layout):
    return sorted(status.name for status in LocalStorage().list(f"{layout.root}/envs"))


def test_an_archive_is_uploaded_once_and_readable_by_all(archive, layout):
    storage, told = Counting(), []
    path = upload(storage, layout, archive, lambda *event: told.append(event))
    assert path == layout.env_archive(archive.key)
    assert storage.status(path).mode == 0o644 and storage.status(path).size == 1000
    assert names(layout) == [archive.path.name]
    assert told[0][1] is None and told[-1][1] == 1.0
    assert upload(storage, layout, archive) == path
    assert storage.uploads == 1


def test_a_failed_upload_leaves_nothing(archive, layout):
    class Breaking(LocalStorage):
        def upload(self, local, path, **named):
            super().upload(local, path, **named)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(Breaking(), layout, archive)
    assert names(layout) == []


def test_another_uploader_may_win(archive, layout):
    class Raced(LocalStorage):
        def rename(self, src, dst):
            self.write_bytes(dst, b"theirs")
            with pytest.raises(PathExists):
                super().rename(src, dst)
            raise PathExists("there")

    path = upload(Raced(), layout, archive)
    assert LocalStorage().read_bytes(path) == b"theirs"
    assert names(layout) == [archive.path.name]


def test_sparks_jars_are_stored_in_one_archive_once(tmp_path, layout):
    jars = tmp_path / "spark" / "jars"
    jars.mkdir(parents=True)
    (jars / "spark-core_2.13-4.3.0.jar").write_bytes(b"a" * 100)
    (jars / "scala.jar").write_bytes(b"b" * 100)
    storage = Counting()
    path = upload_spark_jars(storage, layout, jars.parent)
    assert path.startswith(f"{layout.root}/envs/spark-jars-4.3.0-")
    assert storage.status(path).mode == 0o644
    with zipfile.ZipFile(path) as packed:
        assert sorted(packed.namelist()) == ["scala.jar", "spark-core_2.13-4.3.0.jar"]
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}
    assert upload_spark_jars(storage, layout, jars.parent) == path and storage.uploads == 1
    (jars / "scala.jar").write_bytes(b"b" * 101)
    assert upload_spark_jars(storage, layout, jars.parent) != path


def test_a_folder_without_spark_is_refused(tmp_path, layout):
    with pytest.raises(ConfigError, match="holds no spark-core jar"):
        upload_spark_jars(LocalStorage(), layout, tmp_path)


@pytest.mark.cluster
def test_upload_to_hdfs(archive, hadoop):
    from dkeras_core.storage import open_storage
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    storage = open_storage("/", hadoop=HadoopConfig.load(hadoop.conf_dir))
    layout = Layout("/upload-test")
    path = upload(storage, layout, archive)
    first = storage.status(path)
    assert (first.size, first.mode) == (1000, 0o644)
    assert storage.status("/upload-test/envs").mode == 0o755
    assert upload(storage, layout, archive) == path
    assert storage.status(path).modified == first.modified
    assert [status.name for status in storage.list("/upload-test/envs")] == [archive.path.name]
