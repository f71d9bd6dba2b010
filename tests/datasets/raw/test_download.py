import functools
import gzip
import hashlib
import http.server
import inspect
import threading
import urllib.request

import numpy as np
import pytest
import torchvision

from fairsweep.datasets.raw.download import DOWNLOADS, download
from fairsweep.datasets.sources import SOURCES
from fairsweep.datasets.sources.mnist_likes import FashionMnist, KuzushijiMnist
from fairsweep.datasets.sources.options import from_options


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Says nothing."""


@pytest.fixture
def mirror(tmp_path, raw, monkeypatch):
    """MNIST's four packed files on a server of this machine: torchvision itself fetches, checks and unpacks them."""
    folder = raw.mnist(tmp_path / "server", packed=True)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    resources = [
        (f"{name}-ubyte.gz", hashlib.md5((folder / f"{name}-ubyte.gz").read_bytes()).hexdigest()) for name in names
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield folder
        server.shutdown()
        thread.join()


def test_mnist_comes_as_raw_files(mirror, tmp_path):
    folder = download("mnist", tmp_path / "raw")
    for packed in mirror.iterdir():
        assert (folder / packed.stem).read_bytes() == gzip.decompress(packed.read_bytes())


def test_what_lies_there_already_is_not_fetched_again(mirror, tmp_path, monkeypatch):
    folder = download("mnist", tmp_path / "raw")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    assert download("mnist", tmp_path / "raw") == folder


def test_without_a_connection_there_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ValueError, match=r"mnist cannot be downloaded.*check the connection.*--from RAW"):
        download("mnist", tmp_path / "new" / "raw")
    assert not list(tmp_path.iterdir())


def test_a_file_with_another_hash_is_refused(mirror, tmp_path):
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="mnist cannot be downloaded"):
        download("mnist", tmp_path / "raw")


def test_every_name_has_a_class_that_downloads_and_a_source_that_reads():
    assert set(DOWNLOADS) <= set(SOURCES)
    for known in DOWNLOADS.values():
        assert hasattr(getattr(torchvision.datasets, known.dataset), "download")


def test_what_was_fetched_can_be_read(mirror, tmp_path):
    source = from_options(SOURCES["mnist"], {"raw": str(download("mnist", tmp_path / "raw"))})
    table = source.examples()
    assert table.num_rows == 60
    assert np.array_equal(table.column("digit").to_numpy(), np.r_[np.arange(40) % 10, np.arange(20) % 10][table["id"]])


def test_classes_of_the_likes_are_those_of_torchvision():
    for kind in (FashionMnist, KuzushijiMnist):
        known = getattr(torchvision.datasets, DOWNLOADS[kind.name].dataset).classes
        ours = [value.replace(" ", "").replace("-", "") for value in kind.values]
        theirs = [name.lower().replace("/top", "").replace(" ", "").replace("-", "") for name in known]
        assert ours == theirs


@pytest.mark.parametrize(("name", "folder"), [("celeba", "celeba"), ("fashion-mnist", "FashionMNIST/raw")])
def test_the_class_is_asked_for_what_it_needs(name, folder, tmp_path, monkeypatch):
    known = DOWNLOADS[name]
    given = {}
    real = inspect.signature(getattr(torchvision.datasets, known.dataset).__init__)

    def stub(**arguments):
        # Raises if the real class would not take these arguments.
        real.bind(None, **arguments)
        given.update(arguments)

    monkeypatch.setattr(torchvision.datasets, known.dataset, stub)
    assert download(name, tmp_path / "raw") == tmp_path / "raw" / folder
    assert given == {"root": str(tmp_path / "raw"), "download": True, **dict(known.arguments)}
    with pytest.raises(ValueError, match=r"only mnist, .* can be downloaded, but got 'utkface'"):
        download("utkface", "raw")
