"""Writes small datasets in exactly the raw forms in which the real ones travel."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

CELEBA_HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
CELEBA_NAMES = CELEBA_HEADER.split()


class Raw:
    """Writers of raw files; a fixture hands them out, since tests cannot import from each other."""

    names = CELEBA_NAMES

    @staticmethod
    def photo(seed, width=178, height=218, mode="RGB"):
        """A smooth picture that depends on its seed."""
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)

    @classmethod
    def jpeg(cls, seed, width=178, height=218, mode="RGB", **options):
        stream = io.BytesIO()
        cls.photo(seed, width, height, mode).save(stream, "JPEG", quality=90, **options)
        return stream.getvalue()

    @classmethod
    def bright_jpeg(cls, number):
        """A picture that is brighter where its number is odd."""
        stream = io.BytesIO()
        cls.photo(number, 40, 30).point(lambda value: value // 2 + 120 * (number % 2)).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    @classmethod
    def hugging_face(cls, folder, rows=24, parquet=False, damaged=(), image="picture"):
        """What `save_to_disk` of a DatasetDict wrote, or the Parquet files of the hub: images, a class label, words."""
        feature = {"names": ["frowning", "smiling"], "_type": "ClassLabel"}
        info = {"info": {"features": {image: {"_type": "Image"}, "mouth": feature, "tone": {"_type": "Value"}}}}
        cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        for split, first, count in (("train", 0, rows), ("test", rows, rows // 2)):
            numbers = range(first, first + count)
            files = [b"damaged" if number in damaged else cls.bright_jpeg(number) for number in numbers]
            columns = {
                image: pa.array([{"bytes": file, "path": None} for file in files], cell),
                "mouth": pa.array([number % 2 for number in numbers], pa.int64()),
                "tone": pa.array(["light" if number % 3 else "dark" for number in numbers]),
            }
            table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(info)})
            if parquet:
                (folder / "data").mkdir(parents=True, exist_ok=True)
                pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet", row_group_size=5)
                continue
            (folder / split).mkdir(parents=True)
            with pa.ipc.new_stream(folder / split / "data-00000-of-00001.arrow", table.schema) as stream:
                stream.write_table(table, max_chunksize=7)
            (folder / split / "state.json").write_text("{}")
        return folder

    @staticmethod
    def signs(count, seed=0):
        """Attribute signs of `count` images, -1 or 1 [count, 40]; every pair of male and smiling occurs."""
        signs = np.random.default_rng(seed).choice([-1, 1], (count, len(CELEBA_NAMES)))
        index = np.arange(count)
        signs[:, CELEBA_NAMES.index("Male")] = np.where(index % 2, 1, -1)
        signs[:, CELEBA_NAMES.index("Smiling")] = np.where(index // 2 % 2, 1, -1)
        return signs

    @staticmethod
    def file_names(count):
        return [f"{number:06d}.jpg" for number in range(1, count + 1)]

    @classmethod
    def attribute_txt(cls, signs, newline="\n"):
        """The official text: count, names with a blank behind them, then columns of width two: runs of blanks."""
        rows = [
            f"{name} " + " ".join(f"{v:2d}" for v in row)
            for name, row in zip(cls.file_names(len(signs)), signs, strict=True)
        ]
        return newline.join([str(len(signs)), " ".join(CELEBA_NAMES) + " ", *rows, ""])

    @classmethod
    def attribute_csv(cls, signs):
        """Kaggle's CSV."""
        rows = [",".join([name, *map(str, row)]) for name, row in zip(cls.file_names(len(signs)), signs, strict=True)]
        return "\n".join([",".join(["image_id", *CELEBA_NAMES]), *rows, ""])

    @classmethod
    def pairs_txt(cls, values):
        return "".join(f"{name} {value}\n" for name, value in zip(cls.file_names(len(values)), values, strict=True))

    @classmethod
    def pairs_csv(cls, header, values):
        rows = [f"{name},{value}\n" for name, value in zip(cls.file_names(len(values)), values, strict=True)]
        return f"{header}\n" + "".join(rows)

    @classmethod
    def celeba(cls, folder, count=24, *, images="img_align_celeba", damaged=()):
        """CelebA as its publishers hand it out: images, attributes, partition, identities."""
        folder = Path(folder)
        (folder / images).mkdir(parents=True)
        for number, name in enumerate(cls.file_names(count), start=1):
            data = cls.jpeg(number)
            (folder / images / name).write_bytes(data[: len(data) // 2] if number in damaged else data)
        (folder / "list_attr_celeba.txt").write_text(cls.attribute_txt(cls.signs(count)))
        (folder / "list_eval_partition.txt").write_text(cls.pairs_txt(cls.partition(count)))
        (folder / "identity_CelebA.txt").write_text(cls.pairs_txt(cls.identities(count)))
        return folder

    @staticmethod
    def partition(count):
        """Four fifths train, then validation, then test."""
        return np.minimum(np.arange(count) * 10 // count, 9).clip(7) - 7

    @staticmethod
    def identities(count):
        return np.arange(count) // 3 * 17 % 10_177 + 1

    @classmethod
    def utkface(cls, folder, per_cell=2, *, suffix=".jpg.chip.jpg", ages=(1, 5, 15, 25, 40, 60, 90)):
        """UTKFace's aligned faces: `per_cell` of each age and race, genders in turn."""
        folder = Path(folder)
        folder.mkdir(parents=True)
        cells = [(age, race) for age in ages for race in range(5)]
        for number, (age, race) in enumerate(cells * per_cell):
            gender = (number + number // len(cells)) % 2
            name = f"{age}_{gender}_{race}_2017010917{number:07d}{suffix}"
            (folder / name).write_bytes(cls.jpeg(number, 200, 200))
        return folder

    @staticmethod
    def zipped(folder, to, prefix=""):
        """Packs all files of a folder."""
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    archive.write(path, prefix + path.relative_to(folder).as_posix())
        return Path(to)

    @staticmethod
    def idx(array):
        """An array of bytes in the IDX form."""
        head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        return head + array.astype(np.uint8).tobytes()

    @classmethod
    def mnist(cls, folder, train=40, test=20, *, packed=False):
        """MNIST's four files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(3)
        for part, count in (("train", train), ("t10k", test)):
            images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = (np.arange(count) % 10).astype(np.uint8)
            for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
                data = cls.idx(array)
                (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
        return folder


@pytest.fixture(scope="session")
def raw():
    return Raw
