import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.data.spool import Column
from dkeras_core.errors import ConfigError, DataError
from dkeras_core.learning.checks import check_labels, check_model, check_repeatable


def classifier(units=3, dtype="float32"):
    return keras.Sequential([keras.Input((4,), dtype=dtype, name="rows"), layers.Dense(units, name="score")])


def two_outputs():
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    both = layers.Concatenate()([left, right])
    return keras.Model(
        [left, right], {"kind": layers.Dense(3, name="kind")(both), "mass": layers.Dense(1, name="mass")(both)}
    )


FEATURES, LABEL = Column("features", shape=(4,)), Column("label")
SPARSE = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("build", "inputs", "labels", "loss"),
    [
        (classifier, [FEATURES], [LABEL], SPARSE),
        (classifier, [FEATURES], [Column("label", shape=(3,))], "categorical_crossentropy"),
        (lambda: classifier(1), [Column("features", "uint8", (4,))], [LABEL], "binary_crossentropy"),
        (lambda: classifier(1), [FEATURES], [Column("label", shape=(1,))], {"class_name": "Huber", "config": {}}),
        (
            two_outputs,
            [FEATURES, Column("more", shape=(2,))],
            [LABEL, Column("mass")],
            {"kind": SPARSE, "mass": "mse"},
        ),
        (
            lambda: keras.Sequential([keras.Input((None, 2)), layers.LSTM(2), layers.Dense(1)]),
            [Column("features", shape=(7, 2))],
            [LABEL],
            "mse",
        ),
    ],
)
def test_what_fits_is_accepted(build, inputs, labels, loss):
    check_model(build(), inputs, labels, loss)


@pytest.mark.parametrize(
    ("build", "inputs", "labels", "loss", "message"),
    [
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Lambda(abs, name="mine"), layers.Dense(1)]),
            [FEATURES],
            [LABEL],
            "mse",
            r"layer 'mine' is a Lambda: it holds Python bytecode",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Rescaling(2)]),
            [FEATURES],
            [LABEL],
            "mse",
            "no trainable",
        ),
        (lambda: keras.Sequential([layers.Dense(1)]), [FEATURES], [LABEL], "mse", "no variables yet"),
        (
            classifier,
            [Column("features", shape=(5,))],
            [LABEL],
            SPARSE,
            r"'features' has rows of shape \[5\].*takes \[4\]",
        ),
        (classifier, [Column("a"), Column("b")], [LABEL], SPARSE, r"has 1 inputs \(rows\), but 2 feature columns"),
        (two_outputs, [FEATURES, Column("more", shape=(2,))], [LABEL], "mse", r"2 outputs .*, but 1 label"),
        (classifier, [Column("features", "U3", (4,))], [LABEL], SPARSE, "a model takes numbers"),
        (lambda: classifier(dtype="int32"), [FEATURES], [LABEL], SPARSE, "fractions would be cut off"),
        (classifier, [FEATURES], [LABEL], "categorical_crossentropy", "one number, output .* has 3 units"),
        (classifier, [FEATURES], [Column("label", shape=(2,))], "mse", r"shape \[2\], output .* gives \[3\]"),
        (classifier, [FEATURES], [Column("label", shape=(3,))], SPARSE, "takes one class number"),
        (
            classifier,
            [FEATURES],
            [LABEL],
            {"scores": SPARSE},
            "a loss for output 'scores', the outputs of this model have no names",
        ),
        (classifier, [FEATURES], [LABEL], [SPARSE, "mse"], "2 losses are given for 1 outputs"),
        (
            two_outputs,
            [FEATURES, Column("more", shape=(2,))],
            [LABEL, LABEL],
            {"type": SPARSE},
            "loss for output 'type', the outputs are kind, mass",
        ),
        (classifier, [FEATURES], [LABEL], "sparse_crossentropy", "unknown loss"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(build, inputs, labels, loss, message):
    with pytest.raises(ConfigError, match=message):
        check_model(build(), inputs, labels, loss)


@pytest.mark.parametrize(
    ("loss", "units", "good", "bad"),
    [
        (SPARSE, 3, [0, 2, 1, 0], 3),
        (SPARSE, 3, [0, 2, 1, 0], -1),
        (SPARSE, 3, [0.0, 2.0, 1.0, 0.0], 0.5),
        ("binary_crossentropy", 1, [0, 1, 0.3, 1], 2),
        ({"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}, 1, [0, 1, 0.3, 1], -1),
        ("poisson", 1, [0, 7, 2, 1], -2),
    ],
)
def test_labels_out_of_range_are_named_with_their_row(monkeypatch, loss, units, good, bad):
    monkeypatch.setattr("dkeras_core.learning.checks._ROWS", 3)  # the wrong row stands in the second piece
    model, labels = classifier(units), np.array(good, np.float32)
    check_labels(model, loss, [labels])
    labels[3] = bad
    with pytest.raises(DataError, match=rf"column 'truth', row 3: {np.float32(bad)} is out of range"):
        check_labels(model, loss, [labels], ["truth"])


def test_labels_of_each_output_are_checked_for_its_loss():
    labels = [np.array([0, 2]), np.array([-5.0, 9.0])]
    loss = {"kind": {"class_name": "SparseCategoricalCrossentropy", "config": {"ignore_class": -1}}, "mass": "mse"}
    check_labels(two_outputs(), loss, labels)
    check_labels(two_outputs(), loss, [np.array([-1, 2]), labels[1]])
    with pytest.raises(DataError, match="row 1: 3 is out of range"):
        check_labels(two_outputs(), loss, [np.array([0, 3]), labels[1]])


def test_one_hot_rows_are_checked_too():
    one_hot = np.eye(3, dtype=np.float32)
    check_labels(classifier(), "categorical_crossentropy", [one_hot])
    with pytest.raises(DataError, match=r"row 2: 2\.0"):
        check_labels(classifier(), "categorical_crossentropy", [one_hot + np.diag([0, 0, 1]).astype(np.float32)])


class TestRepeatable:
    """What a search over all rows needs of a model."""

    @pytest.mark.parametrize(
        ("layer", "does"),
        [
            (lambda: layers.Dropout(0.1, name="odd"), "draws random numbers"),
            (lambda: layers.GaussianNoise(0.1, name="odd"), "draws random numbers"),
            (lambda: layers.BatchNormalization(name="odd"), "takes statistics of its batch"),
        ],
    )
    def test_layers_that_change_the_loss_are_named(self, layer, does):
        inner = keras.Sequential([keras.Input((3,)), layer()])
        model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)])
        with pytest.raises(ConfigError, match=rf"layer 'odd' .* {does}"):
            check_repeatable(model)

    def test_others_pass(self):
        frozen = layers.BatchNormalization(trainable=False)
        others = [frozen, layers.Dropout(0.0), layers.LayerNormalization(), layers.Dense(1)]
        check_repeatable(keras.Sequential([keras.Input((3,)), *others]))
