import io
import math
import re
import time

import pytest
from rich.console import Console
from rich.text import Text

from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.spent_privacy import SpentPrivacy
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.views.columns import epsilon_words
from fairsweep.sweeps.views.display import render, showing
from fairsweep.sweeps.views.lines import Lines
from fairsweep.sweeps.views.notebook import in_notebook, panel
from fairsweep.sweeps.views.pacing import Paced
from fairsweep.sweeps.views.progress import Progress
from fairsweep.sweeps.views.status import Board, Row
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.privacy.plan import PrivacyPlan


class TuneTrial:
    """What a callback sees of a Tune trial."""

    def __init__(self, identity):
        self.config = {"trial": identity}
        self.last_result = {}
        self.error_file = None


@pytest.fixture
def follow(mapping, toy, tmp_path):
    """A progress of 12 trials, and functions that move one of them."""
    trials = expand(Sweep.from_mapping(mapping), toy)
    queued: dict[str, Entry] = Ledger(tmp_path / "out").queue(trials)
    tasks = {
        t.trial: TrialTask(
            t.config,
            queued[t.trial].folder,
            run=1,
            plan=PrivacyPlan.build(t.config.learner, 120) if t.config.learner.kind == "dpsgd" else None,
        )
        for t in trials
    }
    progress = Progress(trials, queued, tasks, done_before=3, slots=2)
    handles = [TuneTrial(t.trial) for t in trials]

    def start(number):
        progress.on_trial_start(0, [], handles[number])

    def report(number, iteration, **metrics):
        result = {"iteration": iteration, "iterations": 3, "loss": 0.5, "accuracy": 0.91, "worst_group": 0.75} | metrics
        handles[number].last_result = result
        progress.on_trial_result(0, [], handles[number], result)

    def end(number):
        progress.on_trial_complete(0, [], handles[number])

    def fail(number, cause):
        queued[trials[number].trial].file.mark({"state": "failed", "error": cause})
        handles[number].last_result = {"failed": 1.0, "done": True}
        end(number)

    def lose(number):
        progress.on_trial_error(0, [], handles[number])

    progress.start, progress.report, progress.end, progress.fail, progress.lose = start, report, end, fail, lose
    return progress


def shown(progress, height=40, width=120):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(render(progress, height, width))
    return console.file.getvalue()


def test_a_running_trial_is_one_line_with_its_numbers(follow, monkeypatch):
    monkeypatch.setattr("fairsweep.sweeps.views.status.time.monotonic", lambda: 100.0)
    follow.start(0)
    follow.report(0, 2, steps=10, loss=0.1234)
    line = next(line for line in shown(follow).splitlines() if "private_share.5_s0" in line)
    assert re.search(r"2/3\s+0\.123\s+91\.0%\s+75\.0%\s+\d+\.\d\d\s+0 s", line)
    assert "3/15 trials" in shown(follow)
    assert "11 queued" in shown(follow)


def test_the_epsilon_of_a_trial_that_was_stopped_is_the_one_it_claims(follow):
    follow.start(0)
    follow.report(0, 2, steps=10, epsilon=3.83, stopped=1.0)
    follow.end(0)
    assert " 3.83 " in next(line for line in shown(follow).splitlines() if "private_share.5_s0" in line)
    console = Console(file=io.StringIO(), width=200)
    Lines(follow, console).say_news()
    assert "ε 3.83 (simulated), stopped early" in console.file.getvalue()


def test_a_trial_whose_worker_died_is_said_to_go_on(follow):
    """Else what Ray says of the worker is all that there is to read."""
    console = Console(file=io.StringIO(), width=200)
    lines = Lines(follow, console)
    follow.start(0)
    lines.say_news()
    assert console.file.getvalue() == ""
    follow.start(0)
    lines.say_news()
    lines.say_news()
    assert console.file.getvalue().endswith(": started once more, from its last checkpoint if it has one\n")
    assert console.file.getvalue().count("once more") == 1
    later = Console(file=io.StringIO(), width=200)
    Lines(follow, later).say_news()  # of whoever looks later it is no news
    assert later.file.getvalue() == ""


def test_no_guarantee_is_not_called_simulated(follow):
    assert epsilon_words(follow, 3.0) == "ε 3.00 (simulated)"
    assert epsilon_words(follow, math.inf) == "ε ∞"


def test_a_collapsed_trial_is_named_and_the_best_in_nothing(follow):
    follow.start(0)
    follow.report(0, 2, accuracy=0.7, predicted_classes=1)
    follow.start(1)
    follow.report(1, 2, accuracy=0.6, predicted_classes=2)
    assert "70.0% (collapsed)" in shown(follow)
    assert shown(follow).count("collapsed") == 1
    assert "best validation accuracy 60.0%" in shown(follow)


def test_running_trials_come_first_and_the_rest_is_counted(follow):
    for number in range(10):
        follow.start(number)
        follow.report(number, 3)
    for number in range(8):
        follow.end(number)
    text = shown(follow, height=10)
    rows = [line for line in text.splitlines() if line[0:1] in ("▸", "✓")]
    assert [line[0] for line in rows] == ["▸", "▸", "✓", "✓"]
    assert "6 more done" in text
    assert "11/15 trials" in text
    assert len(text.splitlines()) <= 10


def test_failures_are_shown_with_their_cause_and_grouped(follow):
    for number in range(3):
        follow.start(number)
    follow.fail(0, "DivergedError: the training loss is nan")
    follow.fail(1, "DivergedError: the training loss is nan")
    follow.lose(2)
    assert "3 failed" in shown(follow)
    assert "the training loss is nan" in shown(follow)
    assert [group.count for group in follow.failures()] == [2, 1]
    assert list(follow.lost.values()) == ["the worker died"]


def test_five_hundred_trials_stay_readable():
    board = Board(SpentPrivacy({}), done_before=20, slots=64)
    for number in range(480):
        stage = "running" if number < 64 else ("done", "failed", "queued")[number % 3]
        metrics = {"iteration": 2, "iterations": 9, "accuracy": number / 500, "worst_group": 1 - number / 500}
        cause = f"cause {number % 9}" if stage == "failed" else None
        board.rows[str(number)] = Row(f"trial {number}", "sgd", stage, metrics, 1.0, 5.0, cause, 1)
    for height in (6, 12, 24, 50, 200):
        lines = shown(board, height, 100).splitlines()
        assert len(lines) <= min(height, 32)
        assert "500 trials" in lines[-1]
        assert all(len(line) <= 100 for line in lines)
    text = shown(board, 40)
    assert re.search(r"best validation accuracy 95\.4%\s+trial 477", text)
    assert re.search(r"best worst group 100\.0%\s+trial 0", text)
    assert "48 more running" in text
    assert re.search(r"✗ \d+ failed: cause", text)
    assert len(panel(board).split("<tr")) <= 18


def test_a_search_adds_trials_while_it_runs(mapping, toy, tmp_path):
    first = expand(Sweep.from_mapping(mapping), toy)[0]
    queued = Ledger(tmp_path / "out").queue([first])
    progress = Progress((), queued, {}, done_before=0, slots=2, expected=12)
    assert "0/12 trials" in shown(progress)
    task = TrialTask(first.config, queued[first.trial].folder, run=1, plan=PrivacyPlan.build(first.config.learner, 120))
    progress.add([first], {first.trial: task})
    progress.on_trial_start(0, [], TuneTrial(first.trial))
    assert progress.count("running") == 1
    assert progress.epsilon.after(first.trial, 5) > 0
    assert "11 to be proposed" in shown(progress)


def test_the_panel_of_a_notebook_escapes_what_it_shows(follow):
    follow.start(0)
    follow.fail(0, "ValueError: <b>no</b>")
    follow.start(1)
    follow.report(1, 1)
    html = panel(follow)
    assert "<b>no" not in html
    assert "ValueError: &lt;b&gt;" in html
    assert "91.0%" in html
    assert not in_notebook()


def test_time_left_follows_what_trials_have_taken(follow, monkeypatch):
    now = {"seconds": 0.0}
    monkeypatch.setattr("fairsweep.sweeps.views.status.time.monotonic", lambda: now["seconds"])
    assert follow.seconds_left() is None
    for number in range(3):  # one of each learner
        follow.start(number)
        follow.report(number, 3)
        now["seconds"] += 10.0 * (number + 1)
        follow.end(number)
    # Nine trials remain, three of each learner, at 10, 20 and 30 seconds, two at once.
    assert follow.seconds_left() == pytest.approx(3 * (10 + 20 + 30) / 2)


def test_spent_privacy_is_an_upper_bound_close_to_the_record(follow):
    plan = next(p for p in follow.epsilon._plans.values() if p.guarantees)
    spent = SpentPrivacy({"t": plan})
    values = [spent.after("t", steps) for steps in range(plan.steps + 1)]
    assert values[0] == 0
    assert values == sorted(values)
    for steps in (1, plan.steps // 2, plan.steps):
        assert values[steps] >= plan.epsilon(steps).pld - 1e-3
    assert values[-1] == pytest.approx(plan.epsilon().pld, abs=5e-3)
    assert spent.after("other", 3) is None
    assert len(spent._known) <= 16


def test_without_a_terminal_every_end_is_one_line(follow):
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with showing(follow, console):
        follow.start(0)
        follow.report(0, 3, steps=15)
        follow.end(0)
        follow.start(2)
        follow.fail(2, "OSError: no space left on device")
    lines = console.file.getvalue().splitlines()
    assert re.fullmatch(
        r"\[4/15\] private_share\.5_s0: validation accuracy 91\.0%, worst group 75\.0%, "
        r"ε \d+\.\d\d \(simulated\) \(0 s\)",
        lines[0],
    )
    assert lines[1] == "[5/15] tuned_share.5_s0 failed: OSError: no space left on device"


def test_a_view_takes_a_hundredth_of_the_time_however_long_it_takes():
    for seconds, most in ((0.0, 200), (0.02, 50), (30.0, 20)):
        made, now, spent = [], [0.0], [0.0]

        def make(made=made, spent=spent, seconds=seconds):
            spent[0] += seconds
            made.append(len(made))
            return made[-1]

        view = Paced(make, lambda now=now: now[0], lambda spent=spent: spent[0])
        for _ in range(200):  # of half a second
            assert view() == made[-1]
            now[0] += 0.5
        assert len(made) == most
        view.expire()
        assert view() == most  # the last look is never an old one


def test_a_live_table_of_many_trials_is_not_made_anew_with_every_refresh(follow, monkeypatch):
    made = []

    def slow(*_):
        made.append(follow.count("done"))
        began = time.thread_time()
        while time.thread_time() < began + 0.04:
            pass
        return Text("")

    monkeypatch.setattr("fairsweep.sweeps.views.display.render", slow)
    monkeypatch.setattr("fairsweep.sweeps.views.display.REFRESH_SECONDS", 0.01)
    console = Console(file=io.StringIO(), width=120, height=30, force_terminal=True, legacy_windows=False)
    with showing(follow, console):
        time.sleep(0.5)
        follow.start(0)
        follow.report(0, 3, steps=15)
        follow.end(0)
    assert made in ([0, 1], [0, 0, 1])


def test_views_say_whether_epsilon_is_a_simulated_one():
    for is_simulated in (True, False):
        board = Board(SpentPrivacy({}), is_simulated=is_simulated)
        board.rows["t"] = Row("trial", "dpsgd", "done", {"epsilon": 2.0}, 1.0, 5.0)
        for text in (shown(board), panel(board)):
            assert ("ε spent (simulated)" in text) is is_simulated
            assert "ε spent" in text


def test_a_terminal_gets_the_live_table(follow):
    console = Console(file=io.StringIO(), width=120, height=30, force_terminal=True, legacy_windows=False)
    with showing(follow, console):
        follow.start(0)
        follow.report(0, 1, steps=5)
    assert "private_share.5_s0" in console.file.getvalue()
    assert "3/15 trials" in console.file.getvalue()
