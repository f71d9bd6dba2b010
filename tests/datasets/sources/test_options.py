from pathlib import Path

import pytest

from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.options import from_options, option_names
from fairsweep.datasets.sources.splits import BalancedTest, HoldOut
from fairsweep.datasets.sources.utkface import UTKFace


def test_every_field_is_an_option():
    assert set(option_names(UTKFace)) == {
        *("raw", "image_size", "age_edges"),
        *("hold_out.validation", "hold_out.test", "hold_out.key"),
        *("balanced_test.per_cell", "balanced_test.extra_random", "balanced_test.key"),
    }


def test_words_become_values_of_their_fields():
    source = from_options(
        UTKFace,
        {
            "raw": "faces",
            "image-size": "32",
            "age_edges": "17, 120",
            "balanced-test.per-cell": "9",
            "balanced-test.extra-random": "63",
            "hold-out.validation": "0.05",
        },
    )
    assert source == UTKFace(Path("faces"), 32, (17, 120), HoldOut(validation=0.05), BalancedTest(9, 63))


def test_what_is_not_given_keeps_its_default():
    assert from_options(CelebA, {"raw": "r"}) == CelebA("r")
    assert from_options(UTKFace, {"raw": "r"}).balanced_test is None


def test_none_is_a_word_where_words_are_meant_and_no_value_elsewhere():
    source = from_options(CelebA, {"raw": "r", "crop": "none", "partition": "none", "stratify": "male"})
    assert source == CelebA("r", crop=None, partition="none", stratify=("male",))


def test_one_column_is_a_column():
    assert from_options(Folder, {"raw": "r", "columns": "label"}).columns == ("label",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raw": "r", "image-siz": "3"}, "no option --image-siz here: did you mean '--image-size'"),
        ({"raw": "r", "image-size": "big"}, "--image-size cannot be 'big'"),
        ({"raw": "r", "image-size": "none"}, "--image-size cannot be 'none'"),
        ({"raw": "r", "image-size": "0"}, "at least 1 pixel"),
        ({}, "--raw must be given"),
        ({"raw": "r", "balanced-test.key": "3"}, "--balanced-test.per-cell must be given"),
        ({"raw": "r", "age-edges": "a,b"}, "--age-edges cannot be 'a,b'"),
        ({"raw": "r", "hold-out.test": "1.5"}, "together below 1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        from_options(UTKFace, options)
