"""Tables, figures and the page: complete, consistent with the numbers, and closed to the network."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.offline
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.figures.plots as plots
from fairsweep.analysis.drawing.palette import GROUP_COLOURS, LEARNER_COLOURS
from fairsweep.analysis.drawing.plotly_backend import X_TITLE
from fairsweep.analysis.inference.privacy_ledger import privacy_ledger
from fairsweep.analysis.records.cell_records import read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, PREDICTIONS, PRIVACY, REPORT, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.pair_section import pair_section
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.report_page import data_table
from fairsweep.analysis.report.selection_section import selection_section
from fairsweep.analysis.report.statements import answer
from fairsweep.analysis.report.study_description import DRAWINGS
from fairsweep.analysis.report.trend_section import trend_section
from fairsweep.analysis.results.imbalance_design import design_of


class Page(HTMLParser):
    """Collects what the tests ask about a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.texts, self.figures = [], [], [], [], []
        self._inside = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[name] for name in ("src", "href", "action", "data") if attributes.get(name)]
        if tag not in ("meta", "br", "link", "img", "input"):
            self._inside.append((tag, attributes))

    def handle_endtag(self, tag):
        opened, _ = self._inside.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data):
        if not self._inside:
            return
        tag, attributes = self._inside[-1]
        if tag == "script" and attributes.get("type") == "application/json":
            self.figures.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.texts.append(data.strip())

    @property
    def text(self):
        return " ".join(text for text in self.texts if text)


@pytest.fixture(scope="module")
def face_page(faces):
    path = analysis.write_report(faces.folder)
    assert path == faces.folder / REPORT
    return Page(path.read_text())


@pytest.fixture(scope="module")
def digit_page(digits):
    return Page(analysis.write_report(digits.folder).read_text())


def test_the_page_asks_the_network_for_nothing(face_page, faces):
    assert all(link.startswith("#") for link in face_page.links)
    assert not {"link", "iframe", "object", "embed", "form"} & set(face_page.tags)
    text = (faces.folder / REPORT).read_text()
    assert "Content-Security-Policy" in text
    assert "default-src 'none'" in text
    assert "form-action 'none'" in text
    assert "showSendToCloud: false" in text
    assert len(text.encode()) < 3_000_000
    style = text[text.index("<style>") : text.index("</style>")]
    assert "color-scheme: light dark" in style
    assert "@media print" in style
    assert "url(" not in style


def test_every_anchor_and_label_exists_once(face_page, faces):
    text = (faces.folder / REPORT).read_text()
    for target in re.findall(r'(?:href="#|aria-labelledby=")([^"]+)"', text):
        assert text.count(f'id="{target}"') == 1
    assert len(set(face_page.ids)) == len(face_page.ids)


def test_plotly_is_in_the_page_packed(faces):
    text = (faces.folder / REPORT).read_text()
    (packed,) = re.findall(r'<script type="text/plain" id="plotly">([A-Za-z0-9+/=]+)</script>', text)
    assert gzip.decompress(base64.b64decode(packed)).decode() == plotly.offline.get_plotlyjs()


def test_the_page_says_what_it_must(face_page, faces):
    results = analysis.load(faces.folder)
    text = face_page.text
    assert DRAWINGS in text
    assert "18 done" in text
    assert collect(results).findings.headline.statement.text in text
    for section in answer(results, design_of(results)):
        for statement in section.statements:
            assert statement.text in text
    assert "covered only by their composition" in text
    assert (
        "the 6 private trials together cost ε = 10.4 at δ = 1e-05, their events composed by PLD (11.4 by RDP)" in text
    )
    assert "for the sweep as a whole ε is infinite" in text
    assert "simulated" in text
    assert "All trials are tested on the same 600 held-out images" in text
    assert "Are these fluctuations real?" in text
    found = analysis.explain_fluctuations(results, "accuracy", "share", by="tone", group="dark", learner="private")
    assert found.sources in text
    assert found.verdicts not in text
    assert "fairsweep run sweep.yaml" in text
    assert "pip install torch==2.15.0" in text
    assert "0123456789abcdef0123456789abcdef01234567" in text
    assert "No trial failed" in text
    for table in analysis.summary_tables(results):
        assert table.title in text
    for make in (trend_section, pair_section, selection_section):
        section = make(results, design_of(results))
        assert section.name in face_page.ids
        assert all(sentence in text for sentence in section.sentences)
        assert all(one.text in text for section in section.findings for one in section.statements)
        assert all(figure.caption in text for figure in section.figures)
        assert all(table.caption in text for table in section.tables)


def test_the_digits_page_shows_classes_and_no_drawings(digit_page):
    assert DRAWINGS not in digit_page.text
    assert "digit 8" in digit_page.text
    assert "separately tuned" in digit_page.text


def test_figures_draw_the_numbers_of_the_tables(face_page, faces):
    results = analysis.load(faces.folder)
    means = analysis.average(results.rates(["accuracy"], by="tone"))
    figure = plots.rate_by_level(results)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 6
    drawn = sorted(float(value) for line in lines for value in line.y)
    np.testing.assert_allclose(drawn, np.sort(means["value"]))
    assert len(face_page.figures) >= 6
    kinds = {trace["type"] for figure in face_page.figures for trace in figure["data"]}
    assert kinds == {"scatter", "bar", "heatmap"}


def test_group_colours_are_the_same_in_every_figure(faces):
    results = analysis.load(faces.folder)
    trend, change = plots.rate_by_level(results), plots.change_by_level(results)
    counts, reasons = plots.training_counts(results), plots.diagnostics(results, "private")
    for name, colour in (("light tone", GROUP_COLOURS[0]), ("dark tone", GROUP_COLOURS[1])):
        for figure in (trend, change):
            found = {trace.line.color for trace in figure.data if trace.name == name}
            assert found == {colour}
        assert {trace.marker.color for trace in counts.data if trace.name == name} == {colour}
        assert {t.line.color for t in reasons.data if t.name and t.name.startswith(name)} == {colour}
    assert not set(GROUP_COLOURS) & set(LEARNER_COLOURS)


def test_imbalance_grows_to_the_right(faces):
    figure = plots.rate_by_level(analysis.load(faces.folder))
    line = next(trace for trace in figure.data if trace.mode == "lines+markers")
    np.testing.assert_allclose(line.x, [-np.log10(count) for count in (2000, 400, 40)])
    assert figure.layout.xaxis.ticktext == ("0.5<br>2,000", "0.9<br>400", "0.99<br>40")
    titles = [note.text for note in figure.layout.annotations if note.name == X_TITLE]
    assert titles == ["share of tone light; below: number of rare training images"]


def test_counts_stand_in_the_hover(faces):
    figure = plots.rate_by_level(analysis.load(faces.folder))
    line = next(trace for trace in figure.data if trace.mode == "lines+markers")
    assert "n %{customdata[2]" in line.hovertemplate
    assert [row[2] for row in line.customdata] == [300, 300, 300]


def test_what_equal_groups_would_show_is_drawn_beside_disparities(faces):
    results = analysis.load(faces.folder)
    figure = plots.disparity_by_level(results)
    luck = next(trace for trace in figure.data if trace.name and "expected of equal groups" in trace.name)
    means = analysis.average(results.disparities(["accuracy_difference"], by="tone"))
    np.testing.assert_allclose(luck.y, means.groupby("share")["expected_if_equal"].mean())


def test_epsilon_is_drawn_only_where_it_varies(faces, tmp_path, simulate):
    assert plots.disparity_by_epsilon(analysis.load(faces.folder)) is None
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for epsilon in (1.0, 8.0):
        learner = {"name": "private", "kind": "dpsgd", "epsilon": epsilon}
        simulate["face_trial"](simulation, learner, 0.5, 0)
        simulate["face_trial"](simulation, learner, 0.99, 0)
    results = analysis.load(simulation.folder)
    figure = plots.disparity_by_epsilon(results)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [list(line.x) for line in lines] == [[1.0, 8.0], [1.0, 8.0]]
    page = Page(analysis.write_report(simulation.folder).read_text())
    assert any("private, ε=8" in text for text in page.texts)


def test_change_by_class_shows_the_rare_one_apart(digits):
    results = analysis.load(digits.folder)
    figure = plots.change_by_group(results, "digit", baseline="sgd", learners=["dpsgd"])
    (bar,) = figure.data
    assert list(bar.x) == list("0123456789")
    assert bar.y[8] == min(bar.y)
    assert len(set(bar.marker.color)) == 2
    assert bar.marker.color[8] not in bar.marker.color[:8]
    assert plots.change_by_group(results, "digit", baseline="twin") is None
    assert plots.change_by_level(results, "digit", baseline="twin") is None
    accuracies = plots.rate_by_group(results, "digit")
    assert [trace.name for trace in accuracies.data] == ["dpsgd", "sgd"]
    assert np.all(np.array(accuracies.data[0].error_y.array) >= 0)


def test_diagnostics_are_weighted_means(faces):
    results = analysis.load(faces.folder)
    assert plots.diagnostics(results, "tuned") is None
    figure = plots.diagnostics(results, "private")
    dark = next(trace for trace in figure.data if trace.name == "dark tone, share 0.99")
    np.testing.assert_allclose(dark.y, 2.1)
    assert list(dark.x) == [1, 2, 3]


def test_summary_tables_hold_the_averages(faces):
    results = analysis.load(faces.folder)
    accuracy, disparities, *_ = analysis.summary_tables(results)
    assert accuracy.header == ("learner", "share", "ε", "runs", "all", "light tone", "dark tone", "worst group")
    assert len(accuracy.rows) == len(disparities.rows) == 9
    assert "ε is a simulated guarantee (research mode)" in accuracy.caption
    assert "simulated" not in disparities.caption  # it is said once
    means = analysis.average(results.rates(["accuracy"], by="tone"), results=results)
    dark = means[means["group"] == "dark"].set_index(["series", "share"])
    for row in accuracy.rows:
        expected = dark.loc[(row[0], float(row[1]))]
        assert row[6] == f"{100 * expected['value']:.1f} [{100 * expected['low']:.1f},{100 * expected['high']:.1f}]"
    assert disparities.header[4:] == ("accuracy gap", "dem. parity", "base rate", "equal opp.", "eq. odds")
    assert all("≈" in row[4] and row[6] == "0.0" for row in disparities.rows)
    lines = accuracy.markdown().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("| learner | share |")
    assert list(accuracy.frame().columns) == list(accuracy.header)


def test_undefined_numbers_are_shown_with_their_count(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    for folder in (simulation.folder / TRIALS).iterdir():
        file = read_cells(folder / CELLS)
        frame = file.table.to_pandas()
        table = file.table.filter(((frame["tone"] == 0) | (frame["label"] == 0)).to_numpy())
        write_cells(folder / CELLS, table, list(file.vocabularies.values()), file.label)
        (folder / PREDICTIONS).unlink()
    results = analysis.load(simulation.folder)
    _, disparities, *_ = analysis.summary_tables(results)
    column = disparities.header.index("equal opp.")
    assert {row[column] for row in disparities.rows} == {"n/a (n 0)"}
    assert "n/a (n 0)" in Page(analysis.write_report(simulation.folder).read_text()).text


def test_an_unfinished_sweep_has_a_page_that_says_so(unfinished):
    page = Page(analysis.write_report(unfinished.folder).read_text())
    assert "1 of 11 trials failed" in page.text
    assert "2 of 11 trials are not finished" in page.text
    assert "1 failed: OutOfMemoryError: no memory left" in page.text
    assert "fairsweep retry-failed runs/simulated" in page.text
    assert "half a file" not in page.text
    assert "damaged" in page.text


def test_a_sweep_that_has_just_started_has_a_page(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    simulate["face_trial"](
        simulation, {"name": "private", "kind": "dpsgd", "noise_multiplier": 1.0}, 0.5, 0, state="queued"
    )
    page = Page(analysis.write_report(simulation.folder).read_text())
    assert "No trial has finished yet" in page.text
    assert page.figures == []


def test_names_cannot_break_the_page(tmp_path, simulate):
    nasty = 'tuned-<script>alert("1")<\u2044script>'
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for replicate in (0, 1):
        simulate["face_trial"](simulation, {"name": nasty, "kind": "sgd"}, 0.5, replicate)
    simulation.write_sweep_json(name="<b>bold</b>")
    text = analysis.write_report(simulation.folder, to=tmp_path / "r.html").read_text()
    page = Page(text)
    # One script for each figure, plotly's, and the page's own two.
    assert page.tags.count("script") == len(page.figures) + 3
    assert "b" not in page.tags
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert nasty in page.text


def test_privacy_adds_up_and_names_what_is_not_covered(faces, tmp_path, simulate):
    ledger = privacy_ledger(analysis.load(faces.folder))
    private = ledger.statements[ledger.statements["learner"] == "private"]
    assert private["ε (PLD)"].tolist() == ["3", "3", "3"]
    assert private["ε (RDP)"].tolist() == ["3.36"] * 3
    assert (private["trials"] == 2).all()
    matched = ledger.statements[ledger.statements["learner"] == "matched"]
    assert (matched["guarantee"] == "none: no clipping, no noise or no Poisson sampling").all()
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.5, 0)
    assert privacy_ledger(analysis.load(simulation.folder)) is None


def test_the_table_of_trials_says_whose_epsilon_each_is(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for replicate in range(3):
        simulate["face_trial"](simulation, {"name": "private", "kind": "dpsgd", "epsilon": 3.0}, 0.5, replicate)
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.5, 0)
    simulation.write_sweep_json()
    stated = [folder / PRIVACY for folder in sorted((simulation.folder / TRIALS).glob("private*"))]
    write_json(stated[1], read_json(stated[1]) | {"mode": "release"})
    deployed = {"simulation": "1,000 clients.", "epsilon_of_simulated_deployment": {"pld": 1.5, "rdp": 1.8}}
    write_json(stated[2], read_json(stated[2]) | deployed)
    for path in simulation.folder.glob(f"{TRIALS}/*/{CELLS}"):
        path.unlink()  # nothing to evaluate: the tables alone
    table = collect(analysis.load(simulation.folder)).trials
    assert table["ε"].tolist() == ["3", "3", "3", "∞"]
    assert table["ε of the simulated deployment"].tolist() == ["", "", "1.5", ""]
    none = "none: no clipping, no noise or no Poisson sampling"
    guarantees = ["simulated (research mode)", "release mode", "simulates a larger deployment", none]
    assert table["guarantee"].tolist() == guarantees


def test_a_report_can_be_written_to_another_place(face_page, faces, tmp_path):
    results = analysis.load(faces.folder)
    path = analysis.write_report(results, to=tmp_path / "here.html")
    assert path.read_text() == (faces.folder / REPORT).read_text()


def test_cells_of_tables_sort_by_value():
    import pandas as pd

    table = data_table(pd.DataFrame({"a": [1200.0, float("nan"), 0.00012], "b": ["x", None, True]}), "caption")
    assert [row[0].text for row in table.rows] == ["1,200", "", "0.00012"]
    assert [row[0].is_number for row in table.rows] == [True, False, True]
    assert float(table.rows[2][0].key) == 0.00012
    assert table.columns == [("a", True), ("b", False)]


def test_columns_that_never_change_are_said_in_the_caption():
    import pandas as pd

    frame = pd.DataFrame({"learner": ["a", "b"], "runs": [2, 2], "base rate": ["0.0", "0.0"], "value": [1, 2]})
    lean = data_table(frame, "Means.").lean
    assert lean.header == ("learner", "value")
    assert lean.caption == "Means. In every row: runs 2, base rate 0.0."
    assert data_table(frame[:1]).lean.header == tuple(frame)
