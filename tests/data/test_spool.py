import errno
import os

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.spool import Column, Spool
from dkeras_core.errors import DataError, StorageError

COLUMNS = [Column("features", shape=(3,)), Column("label"), Column("weight", "float64")]


def batch(rows=5, first=0, lists="list_", **columns):
    features = np.arange(first * 3, (first + rows) * 3, dtype=np.float32)
    if lists == "fixed":
        features = pa.FixedSizeListArray.from_arrays(features, 3)
    else:
        features = pa.array(features.reshape(rows, 3).tolist(), getattr(pa, lists)(pa.float32()))
    label = pa.array(np.arange(first, first + rows) % 2, pa.int32())
    weight = pa.array(np.arange(first, first + rows) / 8)
    return pa.record_batch(
        {"key": pa.array(["k"] * rows), "features": features, "label": label, "weight": weight} | columns
    )


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("lists", ["list_", "large_list", "fixed"])
def test_rows_come_back_in_order(tmp_path, lists):
    with Spool.create(tmp_path, COLUMNS) as spool:
        for first, rows in ((0, 5), (5, 0), (5, 2)):
            assert spool.append(batch(rows, first, lists)) == rows
        arrays = spool.seal(expected_rows=7).arrays
        assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == {
            "features": ("float32", (7, 3)),
            "label": ("float32", (7,)),
            "weight": ("float64", (7,)),
        }
        np.testing.assert_array_equal(arrays["features"], np.arange(21).reshape(7, 3))
        np.testing.assert_array_equal(arrays["label"], np.arange(7) % 2)
        np.testing.assert_array_equal(arrays["weight"], np.arange(7) / 8)
        assert spool.nbytes == 7 * (12 + 4 + 8)


@pytest.mark.parametrize("lists", ["list_", "fixed"])
def test_a_slice_of_a_batch_is_spooled_alone(tmp_path, lists):
    with Spool.create(tmp_path, COLUMNS) as spool:
        spool.append(batch(9, lists=lists).slice(4, 3))
        np.testing.assert_array_equal(spool.seal().arrays["features"], np.arange(12, 21).reshape(3, 3))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(12)], ids=str)
def test_images_stay_bytes(tmp_path, kind):
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), np.uint8)
    column = pa.array([image.tobytes() for image in images], kind)
    with Spool.create(tmp_path, [Column("image", "uint8", (2, 2, 3))]) as spool:
        spool.append(pa.record_batch({"image": column}).slice(1, 4))
        array = spool.seal().arrays["image"]
        np.testing.assert_array_equal(array, images[1:5])
        assert spool.nbytes == 4 * 12


def test_matching_types_are_not_copied():
    from dkeras_core.data.arrow import to_rows

    values = np.arange(12, dtype=np.float32)
    rows = to_rows(
        pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(values, 3)}), Column("x", "float32", (3,)), 0
    )
    assert np.shares_memory(rows, values)


def test_arrays_are_read_only_maps_without_a_name(tmp_path):
    before = open_descriptors()
    spool = Spool.create(tmp_path, COLUMNS)
    spool.append(batch())
    spool.seal()
    assert list(tmp_path.iterdir()) == []
    features = spool.arrays["features"]
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 1
    spool.release()
    np.testing.assert_array_equal(features, np.arange(15).reshape(5, 3))
    spool.close()
    np.testing.assert_array_equal(features, np.arange(15).reshape(5, 3))
    with pytest.raises(DataError, match="closed"):
        _ = spool.arrays
    del features
    assert open_descriptors() == before


def test_descriptors_are_closed_after_a_failure(tmp_path):
    before = open_descriptors()
    with pytest.raises(DataError), Spool.create(tmp_path, COLUMNS) as spool:
        spool.append(batch(label=pa.array([None] * 5, pa.float32())))
    assert open_descriptors() == before


LISTS = pa.list_(pa.float32())


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("features", pa.array([[1, 2, 3]] * 4 + [[1, 2]], LISTS), "'features', row 9: 2 values, every row needs 3"),
        ("features", pa.array([[1, 2]] * 5, LISTS), "'features', row 5: 2 values"),
        ("features", pa.array([[1, 2, 3]] * 2 + [None] * 3, LISTS), "'features', row 7: null"),
        ("features", pa.array([[1, 2, 3], [1, None, 3]] + [[1, 2, 3]] * 3, LISTS), "row 6: value 1 is null"),
        ("features", pa.array([[1, 2, 3]] * 4 + [[1, 2, np.nan]], LISTS), "row 9, value 2: nan is not a finite"),
        ("features", pa.array([[1, 2, 1e300]] * 5, pa.list_(pa.float64())), "row 5, value 2: 1e\\+300 does not fit"),
        ("features", pa.FixedSizeListArray.from_arrays(np.zeros(20, np.float32), 4), "row 5: 4 values"),
        ("features", pa.array(np.arange(5.0)), "holds double, a list of 3 numbers"),
        ("features", pa.array([["a", "b", "c"]] * 5), "holds string, numbers are needed"),
        ("label", pa.array(["s", "b"] * 2 + ["s"]), "'label' holds string"),
        ("label", pa.array([1, None, 3, 4, 5]), "'label', row 6: null"),
        ("label", pa.array([1.0, np.inf, 3, 4, 5]), "'label', row 6: inf is not a finite number"),
        ("label", pa.array([[1.0]] * 5), "'label' holds list"),
    ],
    ids=range(13),
)
def test_bad_rows_are_named_and_nothing_is_kept(tmp_path, column, values, message):
    with Spool.create(tmp_path, COLUMNS) as spool:
        spool.append(batch())
        with pytest.raises(DataError, match=message):
            spool.append(batch(**{column: values}))
        spool.append(batch(2, first=5))
        np.testing.assert_array_equal(spool.seal(7).arrays["features"], np.arange(21).reshape(7, 3))


def test_numbers_that_do_not_fit_an_integer_column(tmp_path):
    with Spool.create(tmp_path, [Column("x", "uint8", (2,))]) as spool:
        spool.append(pa.record_batch({"x": pa.array([[1, 255]], pa.list_(pa.int64()))}))
        for bad, shown in (([3, 256], "256"), ([-1, 3], "-1")):
            with pytest.raises(DataError, match=f"row 1.*{shown} does not fit uint8"):
                spool.append(pa.record_batch({"x": pa.array([bad], pa.list_(pa.int64()))}))
        with pytest.raises(DataError, match=r"1\.5 does not fit"):
            spool.append(pa.record_batch({"x": pa.array([[1.5, 2]])}))
        assert spool.seal().arrays["x"].tolist() == [[1, 255]]


def test_bytes_of_a_wrong_length(tmp_path):
    with Spool.create(tmp_path, [Column("x", "uint8", (2,))]) as spool, pytest.raises(DataError, match="row 1: 3 byt"):
        spool.append(pa.record_batch({"x": pa.array([b"ab", b"abc"])}))


def test_missing_column_wrong_count_and_order_of_calls(tmp_path):
    with Spool.create(tmp_path, COLUMNS) as spool:
        with pytest.raises(DataError, match="'weight' is missing; the rows have key, features, label"):
            spool.append(batch().select(["key", "features", "label"]))
        with pytest.raises(DataError, match="before it is sealed"):
            _ = spool.arrays
        spool.append(batch())
        with pytest.raises(DataError, match="5 rows were spooled, 6 were announced"):
            spool.seal(expected_rows=6)
        spool.seal()
        with pytest.raises(DataError, match="sealed: no rows"):
            spool.append(batch())
    with pytest.raises(DataError, match="names of their own"):
        Spool.create(tmp_path, [Column("x"), Column("x", "int32")])


def test_an_empty_spool(tmp_path):
    with Spool.create(tmp_path, COLUMNS) as spool:
        assert spool.seal(0).arrays["features"].shape == (0, 3)


def test_a_full_disk(tmp_path):
    with Spool.create(tmp_path, COLUMNS) as spool:
        spool.append(batch())
        spool._files["label"].close()
        spool._files["label"] = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (closed by the spool)
        with pytest.raises(StorageError, match=r"disk full: the spool in .*No space left") as caught:
            spool.append(batch())
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert "local-dirs" in caught.value.next_step


def test_a_short_write_is_continued(tmp_path):
    class Short:
        def __init__(self, file):
            self.file = file

        def write(self, view):
            return self.file.write(view[:7])

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Spool.create(tmp_path, COLUMNS) as spool:
        spool._files["features"] = Short(spool._files["features"])
        spool.append(batch())
        np.testing.assert_array_equal(spool.seal().arrays["features"], np.arange(15).reshape(5, 3))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere: No such file"):
        Spool.create(tmp_path / "nowhere", COLUMNS)
