"""Figures: both backends draw the same numbers, legends keep off titles, and each figure shows what the tables say."""

import inspect
import warnings

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fairsweep.analysis as analysis
import fairsweep.analysis.figures.plots as plots
from fairsweep.analysis.drawing import plotly_backend
from fairsweep.analysis.drawing.drawing import Axis, Drawing, Line, Panel
from fairsweep.analysis.drawing.palette import GROUP_COLOURS
from fairsweep.analysis.drawing.plotly_backend import X_TITLE
from fairsweep.analysis.drawing.render import BACKENDS, render
from fairsweep.analysis.figures import tradeoffs
from fairsweep.analysis.statistics.intervals import wilson


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


@pytest.fixture
def privacy(simulate, tmp_path):
    """A learner at three ε, another at two clipping norms, and one without privacy; one level, two replicates."""
    simulation = simulate["faces"](tmp_path / "s", replicates=0, per_cell=20)
    for replicate in range(2):
        for epsilon, norm in ((1.0, 1.0), (3.0, 1.0), (8.0, 1.0)):
            learner = {"name": "private", "kind": "dpsgd", "epsilon": epsilon, "l2_clip_norm": norm}
            simulate["face_trial"](simulation, learner, 0.9, replicate)
        for norm in (0.1, 10.0):
            learner = {"name": "matched", "kind": "dpsgd", "epsilon": 3.0, "l2_clip_norm": norm}
            simulate["face_trial"](simulation, learner, 0.9, replicate)
        simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.9, replicate)
    simulation.write_sweep_json()
    return analysis.load(simulation.folder)


def drawn_by_matplotlib(figure):
    """Lay the figure out, as saving it does."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_both_backends_draw_the_same_lines(results):
    screen = plots.rate_by_level(results, "tone")
    paper = plots.rate_by_level(results, "tone", backend="matplotlib")
    assert isinstance(screen, go.Figure)
    assert isinstance(paper, Figure)
    drawn_by_matplotlib(paper)
    axes = [ax for ax in paper.axes if ax.get_title()]
    assert [ax.get_title() for ax in axes] == [note.text for note in screen.layout.annotations if note.name != X_TITLE]
    for number, ax in enumerate(axes, start=1):
        name = "x" if number == 1 else f"x{number}"
        lines = [trace for trace in screen.data if trace.mode == "lines+markers" and trace.xaxis == name]
        drawn = [line for line in ax.get_lines() if line.get_linestyle() != "None"]
        assert len(lines) == len(drawn) == 2
        for one, other in zip(lines, drawn, strict=True):
            np.testing.assert_allclose(one.x, other.get_xdata())
            np.testing.assert_allclose(one.y, other.get_ydata())
            assert one.line.color == other.get_color()


def test_every_figure_of_a_sweep_is_drawn_by_both(results, privacy):
    described = [
        (plots.arbitrariness_by_level, (results,), {"metric": "arbitrary"}),
        (plots.change_by_level, (results,), {}),
        (plots.disparity_by_level, (results,), {}),
        (plots.rate_by_group, (results, "tone"), {}),
        (plots.rate_by_two_groups, (results, "shape", "tone"), {}),
        (plots.change_by_group, (results, "tone"), {"baseline": "twin"}),
        (plots.training_counts, (results,), {}),
        (plots.diagnostics, (results, "private"), {}),
        (plots.heat_map, (results,), {}),
        (plots.confusion, (results, "private"), {}),
        (plots.reliability_by_group, (results,), {}),
        (plots.pareto_front, (results,), {}),
        (plots.disparity_by_epsilon, (privacy,), {}),
        (plots.rate_by_field, (privacy,), {}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw, given, options in described:
            drawing = draw.__wrapped__(*given, **options)
            assert isinstance(render(drawing), go.Figure)
            paper = render(drawing, "matplotlib")
            drawn_by_matplotlib(paper)
            assert any(ax.has_data() for ax in paper.axes)


def test_the_backend_is_a_keyword_of_every_figure(results):
    for name in set(plots.__all__) - {"series_of"}:
        draw = getattr(plots, name)
        assert inspect.signature(draw).parameters["backend"].default == "plotly"
        assert draw.__doc__
    assert BACKENDS == ("plotly", "matplotlib")
    with pytest.raises(ValueError, match=r"plotly.*matplotlib"):
        plots.rate_by_level(results, backend="bokeh")


NAMES = ("attribute", "colour", "series", "learner", "learners", "level", "groups")
ASKED = {"attribute": "tone", "colour": "shape", "series": "private", "learner": "private"}


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        (figure, name)
        for figure in plots.__all__
        for name in NAMES
        if {"results", name} <= set(inspect.signature(getattr(plots, figure)).parameters)
    ],
)
def test_a_misspelt_name_is_refused_not_drawn_as_nothing(results, figure, name):
    draw = getattr(plots, figure)
    parameters = inspect.signature(draw).parameters
    needed = {one: value for one, value in ASKED.items() if one in parameters}
    wrong = ["misspelt"] if "Sequence" in str(parameters[name].annotation) else "misspelt"
    with pytest.raises(ValueError, match=r"must be one of \[.*\], but got 'misspelt'"):
        draw(results, **needed | {name: wrong})


def test_training_images_are_counted_by_what_is_recorded_of_them(results):
    """Of another attribute those of the label stood there, where the values have the same names."""
    with pytest.raises(ValueError, match=r"attribute must be one of \['tone', 'shape', 'smiling'\], but got 'glasses'"):
        plots.training_counts(results, "glasses")


@pytest.mark.parametrize("entries", [2, 5, 12])
def test_the_legend_keeps_off_the_titles(entries):
    y = np.array([0.0, 1.0])
    lines = tuple(Line(y, y, f"a learner with a long name {i}", "#0072B2") for i in range(entries))
    drawing = Drawing((Panel("one", lines, Axis("x")), Panel("two", lines)), columns=2)
    screen = plotly_backend.draw(drawing)
    a_row = 3  # of entries this long, in a page column of 760 pixels
    needed = 20 * -(-entries // a_row) + 20
    assert screen.layout.margin.t >= needed
    assert screen.layout.legend.yref == "container"
    from fairsweep.analysis.drawing import matplotlib_backend

    paper = matplotlib_backend.draw(drawing)
    renderer = drawn_by_matplotlib(paper)
    legend = paper.legends[0].get_window_extent(renderer)
    for ax in paper.axes:
        assert not legend.overlaps(ax.title.get_window_extent(renderer))
        assert not legend.overlaps(ax.get_window_extent(renderer))


def test_a_heat_map_shows_the_means(results):
    means = analysis.average(results.rates(["accuracy"], by="tone")).query("group == 'dark'")
    (trace,) = plots.heat_map(results, "accuracy", "tone", "dark").data
    for row, series in zip(trace.z, trace.y, strict=True):
        expected = means[means["series"] == series].set_index("level").loc[list(trace.x), "value"]
        np.testing.assert_allclose(row, expected)
    (gaps,) = plots.heat_map(results, "accuracy_difference").data
    assert np.shape(gaps.z) == (3, 3)


def test_confusion_sums_the_replicates(results):
    figure = plots.confusion(results, "private", "tone", level="share 0.9")
    cells = results.cells()
    mine = results.trials.query("series == 'private' and level == 'share 0.9'")["trial"]
    cells = cells[cells["trial"].isin(mine) & (cells["split"] == "test") & (cells["iteration"] == 3)]
    for code, trace in enumerate(figure.data):
        table = cells[cells["tone"] == code].pivot_table("count", "label", "prediction", "sum", fill_value=0).to_numpy()
        np.testing.assert_array_equal(trace.customdata[..., 0], table)
        np.testing.assert_allclose(trace.z, table / table.sum(1, keepdims=True))


def test_reliability_pools_the_replicates(results):
    figure = plots.reliability_by_group(results, "tone", level="share 0.99")
    frame = analysis.reliability_frame(results, "tone", bins=10)
    frame = frame.merge(results.trials[["trial", "series", "level"]], on="trial")
    mine = frame.query("series == 'private' and level == 'share 0.99' and group == 'dark' and n > 0")
    trace = next(trace for trace in figure.data if trace.name == "dark tone")
    right = (mine["accuracy"] * mine["n"]).groupby(mine["bin_low"]).sum()
    n = mine.groupby("bin_low")["n"].sum()
    np.testing.assert_allclose(trace.y, right / n)
    np.testing.assert_allclose(trace.customdata[:, 2], n)
    # Replicates judge the same images: these count once.
    images = (n / mine["trial"].nunique()).to_numpy()
    np.testing.assert_allclose(trace.customdata[:, :2], np.stack(wilson((right / n).to_numpy() * images, images), 1))
    errors = analysis.average(results.rates(["calibration_error"], by="tone"))
    error = errors.query("series == 'private' and level == 'share 0.99' and group == 'dark'").iloc[0]
    assert (
        f"calibration error of the group {error['value']:.1%} [{error['low']:.1%}, {error['high']:.1%}]"
        in trace.hovertemplate
    )


def test_a_field_that_varies_is_the_axis(privacy):
    by_epsilon = plots.rate_by_field(privacy)
    assert [list(trace.x) for trace in by_epsilon.data if trace.mode == "lines+markers"] == [[1.0, 3.0, 8.0]] * 2
    assert by_epsilon.layout.xaxis.type == "log"
    by_norm = plots.rate_by_field(privacy, "l2_clip_norm", "tone")
    lines = [trace for trace in by_norm.data if trace.mode == "lines+markers"]
    assert [list(trace.x) for trace in lines] == [[0.1, 10.0]] * 2
    means = analysis.average(privacy.rates(["accuracy"], by="tone"))
    expected = means[(means["learner"] == "matched") & (means["group"] == "light")]
    np.testing.assert_allclose(np.sort(lines[0].y), np.sort(expected["value"]))
    assert plots.rate_by_field(privacy, "batch_size") is None


def test_the_front_holds_what_nothing_beats_in_both():
    rows = pd.DataFrame({"value": [0.9, 0.8, 0.85, 0.7, 0.9], "value_disparity": [0.3, 0.1, 0.2, 0.25, 0.35]})
    line = tradeoffs._front(rows, in_legend=True)
    corners = sorted(set(zip(line.x.tolist(), line.y.tolist(), strict=True)))
    assert {(0.1, 0.8), (0.2, 0.85), (0.3, 0.9)} <= set(corners)
    assert (0.25, 0.7) not in corners
    assert max(line.x) == 0.3


def test_pareto_points_are_the_settings(results):
    figure = plots.pareto_front(results, "tone", level="share 0.9")
    accuracy = analysis.average(results.rates(["accuracy"], by=())).query("level == 'share 0.9'")
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.name for trace in points] == ["private", "matched", "tuned"]
    np.testing.assert_allclose([trace.y[0] for trace in points], accuracy["value"])


def test_two_groups_stand_side_by_side(results):
    figure = plots.rate_by_two_groups(results, "shape", "tone", level="share 0.9")
    frame = analysis.average(results.rates(["accuracy"], by=("shape", "tone")))
    dark = next(trace for trace in figure.data if trace.name == "dark tone")
    chosen = frame[(frame["level"] == "share 0.9") & (frame["series"] == "private")].set_index("group")["value"]
    np.testing.assert_allclose(dark.y, chosen[["round & dark", "long & dark"]])


def test_bars_join_learners_that_nemenyi_does_not_tell_apart():
    posthocs = pytest.importorskip("scikit_posthocs")
    rng = np.random.default_rng(3)
    scores = pd.DataFrame(rng.normal([0.9, 0.88, 0.7, 0.68], 0.03, (12, 4)), columns=list("abcd"))
    ranks = scores.rank(axis=1, ascending=False).mean()
    figure = plots.critical_difference(scores)
    bars = [trace for trace in figure.data if trace.name == "not significantly different"]
    joined = {
        (i, j) for bar in bars for i in ranks.index for j in ranks.index if {*ranks[[i, j]].between(*bar.x)} == {True}
    }
    alike = posthocs.posthoc_nemenyi_friedman(scores.to_numpy()) >= 0.05
    alike.index = alike.columns = ranks.index
    assert {(i, j) for i, j in joined if i != j} == {
        (i, j) for i in ranks.index for j in ranks.index if i != j and alike.loc[i, j]
    }
    for name in ranks.index:
        (line,) = [trace for trace in figure.data if trace.name == name]
        assert line.x[0] == ranks[name]
    drawn_by_matplotlib(plots.critical_difference(scores, backend="matplotlib"))


def test_ranks_need_datasets():
    with pytest.raises(ValueError, match="at least 3 datasets"):
        plots.critical_difference(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]}))


def test_fluctuations_are_drawn_as_deviations(results):
    found = analysis.explain_fluctuations(results, "accuracy", by="tone", group="dark", learner="private", draws=200)
    figure = plots.fluctuations(found)
    bars = next(trace for trace in figure.data if trace.type == "bar")
    known = found.parts[np.isfinite(found.parts["variance"])]
    assert [name.replace("<br>", " ") for name in bars.x] == known["component"].tolist()
    np.testing.assert_allclose(bars.y, known["std"])
    seeds = [trace for trace in figure.data if (trace.name or "").startswith("replicate")]
    assert len(seeds) == len(found.table.values)
    drawn_by_matplotlib(plots.fluctuations(found, backend="matplotlib"))


def test_an_interval_that_the_axis_cuts_has_a_mark_at_the_edge():
    y = np.array([0.5, 0.6])
    line = Line(y, y, "a", "#0072B2", low=y - 0.1, high=np.array([0.9, 0.65]))
    panel = Panel("", (line,), y=Axis(style="percent", range=(0.45, 0.7)))
    marks = [mark for mark in panel.drawn if mark is not line]
    assert [(mark.symbol, list(mark.x)) for mark in marks] == [("triangle-down", [0.5]), ("triangle-up", [0.5])]
    np.testing.assert_allclose([mark.y[0] for mark in marks], [0.45, 0.7], atol=0.01)
    assert list(Panel("", (line,)).drawn) == [line]
    assert len(plotly_backend.draw(Drawing((panel,))).data) == 3


def test_many_levels_have_ticks_that_do_not_touch(tmp_path, simulate):
    sweep = simulate["simulation"](
        tmp_path / "s", simulate["face_words"], ("tone", "shape"), "smiling", 5, lambda _, level, codes, label: level
    )
    for share in np.linspace(0.5, 0.99, 13).round(3).tolist():
        simulate["face_trial"](sweep, {"name": "tuned", "kind": "sgd"}, share, 0)
    sweep.write_sweep_json()
    figure = plots.rate_by_level(analysis.load(sweep.folder))
    places = np.array(figure.layout.xaxis.tickvals)
    assert 3 <= len(places) < 13
    assert figure.layout.xaxis.tickangle == 0
    assert figure.layout.yaxis.range[1] <= 1.02


def test_a_percent_axis_fits_its_values_and_ends_at_all():
    y = np.array([0.9, 0.99])
    axis = plotly_backend.draw(
        Drawing((Panel("", (Line(y, y, "a", "#0072B2"),), y=Axis(style="percent")),))
    ).layout.yaxis
    assert (axis.autorangeoptions.clipmax, axis.autorangeoptions.clipmin) == (1.02, -1.02)
    assert axis.autorangeoptions.maxallowed is None  # this one would be the end of every axis, wherever its values are


def test_more_learners_than_colours_are_told_apart_by_their_place(results, monkeypatch):
    """Twelve settings of a search had seven colours."""
    monkeypatch.setattr("fairsweep.analysis.figures.bars.LEARNER_COLOURS", ("#000000", "#ffffff"))
    figure = plots.rate_by_group(results, "tone")
    assert [trace.name for trace in figure.data] == ["light tone", "dark tone"]
    assert list(figure.data[0].x) == ["private", "matched", "tuned"]
    assert [trace.marker.color for trace in figure.data] == list(GROUP_COLOURS[:2])
