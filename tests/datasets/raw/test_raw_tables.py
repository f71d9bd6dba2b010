import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsweep.datasets.raw import raw_tables


def test_words_of_a_csv_stay_words():
    data = '\ufeffpath, label ,n\r\na.jpg,no,01\r\n ä.jpg ,NA,\r\n"b,c.jpg",None,1e3\r\n'.encode()
    assert raw_tables.read_csv(data, "t.csv").to_pydict() == {
        "path": ["a.jpg", "ä.jpg", "b,c.jpg"],
        "label": ["no", "NA", "None"],
        "n": ["01", None, "1e3"],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line of column names"),
        (b"\n1,2\n", "line of column names"),
        (b"a,b,a\n1,2,3\n", "repeats a"),
        (b"a,b\n1,2\n1\n", "table of 2 columns.*Expected 2 columns, got 1"),
        (b"a,b\n1,2,3\n", "table of 2 columns"),
        (b"a,b\n1,\xff\n", "must be UTF-8 text, but line 2 is not"),
    ],
)
def test_a_malformed_csv_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        raw_tables.read_csv(data, "t.csv")


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_runs_of_spaces_and_tabs_separate_one_value(newline):
    data = newline.join([b"2", b"x y ", b"a.jpg  1 -1  ", b" b.jpg\t-1    1", b""])
    table = raw_tables.read_spaced(data, "t.txt", ["image", "x", "y"], lines_before=2)
    assert table.to_pydict() == {"image": ["a.jpg", "b.jpg"], "x": ["1", "-1"], "y": ["-1", "1"]}


def test_a_row_of_text_with_a_value_too_few_is_refused():
    with pytest.raises(ValueError, match="Expected 3 columns, got 2"):
        raw_tables.read_spaced(b"a.jpg 1 1\nb.jpg 1\n", "t.txt", ["image", "x", "y"])


def test_parquet_gives_the_same_words_as_csv():
    table = pa.table(
        {
            "path": ["a", "b"],
            "n": pa.array([1, None], pa.int16()),
            "flag": [True, False],
            "group": pa.array(["x", "y"]).dictionary_encode(),
            "code": pa.array([1, 0]).dictionary_encode(),
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    assert raw_tables.read_parquet(stream.getvalue(), "t.parquet").to_pydict() == {
        "path": ["a", "b"],
        "n": ["1", None],
        "flag": ["true", "false"],
        "group": ["x", "y"],
        "code": ["1", "0"],
    }


def test_parquet_that_is_none_or_holds_lists_is_refused():
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        raw_tables.read_parquet(b"PAR1", "t.parquet")
    stream = io.BytesIO()
    pq.write_table(pa.table({"path": ["a"], "box": [[1, 2]]}), stream)
    with pytest.raises(ValueError, match="'box' is list"):
        raw_tables.read_parquet(stream.getvalue(), "t.parquet")


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"t\.csv must have a column 'path', but has none: did you mean 'paths'"):
        raw_tables.column(pa.table({"paths": ["a"]}), "path", "t.csv")


def test_rows_for_one_image_are_counted():
    names = pa.chunked_array([["a", "b", "a"], ["c", "b", "a"]])
    with pytest.raises(ValueError, match="2 images have several: a, b;"):
        raw_tables.check_once(names, "t.csv")
    with pytest.raises(ValueError, match="1 rows do not"):
        raw_tables.check_once(pa.chunked_array([["a", None]]), "t.csv")


def test_whole_numbers_are_read_or_the_others_are_named():
    names = pa.chunked_array([["a", "b", "c", "d"]])
    numbers = raw_tables.whole_numbers(pa.chunked_array([["1", "-2", "+3", "0"]]), "values", names)
    assert numbers.tolist() == [1, -2, 3, 0]
    with pytest.raises(ValueError, match="2 are not, for b, d"):
        raw_tables.whole_numbers(pa.chunked_array([["1", "x", "3", None]]), "values", names)
