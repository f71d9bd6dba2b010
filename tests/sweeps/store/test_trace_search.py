"""The search for traces of erased examples finds what it says it looks for, and nothing else."""

import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fairsweep.sweeps.store.trace_search import TraceSearch

LARGE, SMALL, HASH = 391_584_067, 42, "4cc438d893e70fa8258739b9807b8b1e"
IMAGE = np.random.default_rng(3).integers(0, 256, 64, dtype=np.uint8)


def images(folder, rows):
    np.save(folder / "x.npy", rows.reshape(-1, 8, 8, 1))


def packed(folder, inside):
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.json", json.dumps(inside))


HIDDEN = {
    "decimal": (lambda f: (f / ".log").write_text(f"id={LARGE};"), "ids"),
    "64 bits, not aligned": (lambda f: (f / "x").write_bytes(b"abc" + LARGE.to_bytes(8, "little")), "64-bit"),
    "64 bits, the other order": (lambda f: (f / "x").write_bytes(LARGE.to_bytes(8, "big")), "64-bit"),
    "tensor": (lambda f: torch.save({"n": torch.tensor([1, LARGE])}, f / "x.pt"), "64-bit"),
    "column of any name": (lambda f: pq.write_table(pa.table({"unit": [LARGE] * 9}), f / "x.parquet"), "ids"),
    "small id in a column": (lambda f: pq.write_table(pa.table({"id": [SMALL, 7]}), f / "x.parquet"), "ids"),
    "small id in a field": (lambda f: (f / "x.json").write_text(json.dumps({"a": {"ids": [1, SMALL]}})), "ids"),
    "a text column": (lambda f: pq.write_table(pa.table({"t": [f"was {LARGE}"]}), f / "x.parquet"), "ids"),
    "zip": (lambda f: packed(f, {"note": str(LARGE)}), "ids"),
    "the name of a file": (lambda f: (f / f"example-{LARGE}.png").touch(), "ids"),
    "pixels in an array": (lambda f: images(f, np.stack([255 - IMAGE, IMAGE])), "pixels"),
    "pixels in bytes": (lambda f: (f / "x").write_bytes(b"head" + IMAGE.tobytes()), "pixels"),
    "pixels in a column": (
        lambda f: pq.write_table(pa.table({"image": pa.array([IMAGE.tobytes()], pa.binary(64))}), f / "x.parquet"),
        "pixels",
    ),
    "hash": (lambda f: (f / "x.json").write_text(json.dumps({"training": HASH})), "hashes"),
    "hash as bytes": (lambda f: (f / "x.bin").write_bytes(bytes.fromhex(HASH)), "hashes"),
}
INNOCENT = {
    "part of a number": lambda f: (f / "x").write_text(f"{LARGE}0 1{LARGE}"),
    "a small number elsewhere": lambda f: (f / "x.json").write_text(json.dumps({"count": SMALL, "rows": [SMALL]})),
    "a column of counts": lambda f: pq.write_table(pa.table({"count": [SMALL]}), f / "x.parquet"),
    "other pixels": lambda f: images(f, np.stack([255 - IMAGE, np.roll(IMAGE, 1)])),
    "nothing": lambda f: (f / "x").touch(),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_trace_is_found_however_it_is_written(tmp_path, name):
    hide, what = HIDDEN[name]
    hide(tmp_path)
    traces = TraceSearch(np.array([LARGE, SMALL]), [IMAGE.tobytes()], [HASH]).search([tmp_path])
    assert [what in found for found in traces.found.values()] == [True]
    assert "1 files hold traces" in traces.lines()[0]


@pytest.mark.parametrize("name", INNOCENT)
def test_what_is_no_trace_is_not_called_one(tmp_path, name):
    INNOCENT[name](tmp_path)
    traces = TraceSearch(np.array([LARGE, SMALL]), [IMAGE.tobytes()], [HASH]).search([tmp_path], ["the moon"])
    assert traces.found == {}
    assert traces.unread == ()
    assert "searched 1 files" in traces.lines()[0]
    assert traces.lines()[-1] == "not searched: the moon"
