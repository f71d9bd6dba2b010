"""The notebooks run from the first cell to the last at small settings, and are committed without what they printed."""

import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import plotly.offline
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from fairsweep.datasets import write_prepared
from fairsweep.datasets.sources.faces import Faces

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PLOT = "application/vnd.plotly.v1+json"
# One Ray for all of them, as little of it as they need: with one CPU trials take turns in one worker.
START = """
import ray
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, runtime_env={"working_dir": "empty"})
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, cache_folder):
    """One folder and one kernel for all notebooks: what takes long, imports and Ray, happens once."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "empty").mkdir()
    draw_faces(folder / "data" / "faces")
    manager = started(folder, cache_folder)
    yield folder, manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def draw_faces(folder):
    """What `fairsweep prepare faces` makes, without its Ray: the notebooks skip what is there."""
    source = Faces(count=600)
    batches = list(source.images(source.examples()["id"].to_numpy()))
    write_prepared(
        folder,
        name=source.name,
        attributes=source.attributes,
        examples=source.examples(),
        images=np.stack(batches),
        version=source.version,
    )


def started(folder, cache_folder):
    environment = os.environ | {
        "FAIRSWEEP_SMALL": "1",
        "FAIRSWEEP_CACHE": str(cache_folder),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    manager = KernelManager(kernel_name="python3", ip="127.0.0.1")
    manager.start_kernel(cwd=str(folder), env=environment)
    return manager


def execute(notebook, manager, *first):
    """Run all cells in a kernel that exists, some code before them."""
    setup = [nbformat.v4.new_code_cell(code) for code in first]
    notebook.cells[:0] = setup
    client = NotebookClient(notebook, km=manager, timeout=600)
    try:
        client.execute(cleanup_kc=False)
    finally:
        client.kc.stop_channels()
    return notebook


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


# The others, some of which also mirror and prepare, are run by the slow test: all seven take the gate too long.
@pytest.mark.parametrize("path", NOTEBOOKS[1:4], ids=lambda path: path.stem)
def test_a_notebook_runs_small(path, workshop):
    folder, manager = workshop
    first = "%reset -f" if (folder / "started").exists() else START
    (folder / "started").touch()
    done = execute(nbformat.read(path, 4), manager, first)
    found = outputs(done)
    assert not [output for output in found if output.output_type == "error"]
    plots = [output.data[PLOT] for output in found if PLOT in output.get("data", {})]
    assert plots
    assert all(plot["data"] for plot in plots)
    assert any("text/html" in output.get("data", {}) for output in found)
    pages = [*folder.glob("runs/*/report.html"), *folder.glob("drive/*.html")]
    assert max(pages, key=os.path.getmtime).stat().st_size > 1_000_000


def test_there_are_seven():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_colab",
        "01_imbalance",
        "02_dpfedavg",
        "03_sisa_unlearning",
        "04_your_own_dataset",
        "05_audit",
        "06_revisiting",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    content = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(content))
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert set(cell["metadata"]) <= {"tags"}
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert content["metadata"]["kernelspec"]["name"] == "python3"


def as_page(notebook):
    """An executed notebook as HTML, much as Jupyter shows it; plotly draws its figures."""
    markdown = pytest.importorskip("markdown").markdown
    parts = []
    for cell in notebook.cells:
        text = cell.source
        parts.append(markdown(text) if cell.cell_type == "markdown" else f"<pre class=code>{html.escape(text)}</pre>")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if PLOT in data:
                figure = json.dumps(data[PLOT]).replace("<", "\\u003c")
                parts.append(f'<div class=plot><script type="application/json">{figure}</script></div>')
            elif "text/html" in data:
                parts.append(data["text/html"])
            elif "image/png" in data:
                parts.append(f'<img src="data:image/png;base64,{data["image/png"]}">')
            else:
                parts.append(f"<pre>{html.escape(data['text/plain'])}</pre>")
    draw = """for (const place of document.querySelectorAll(".plot")) {
      const figure = JSON.parse(place.firstChild.textContent);
      Plotly.newPlot(place, figure.data, figure.layout, figure.config);
    }"""
    style = "body {font: 15px/1.5 sans-serif; max-width: 900px; margin: auto} .code {background: #eee; padding: 8px}"
    head = f"<!doctype html><meta charset=utf-8><title>notebook</title><style>{style}</style>"
    return f"{head}{''.join(parts)}<script>{plotly.offline.get_plotlyjs()}</script><script>{draw}</script>"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_alone_and_a_browser_shows_it(path, tmp_path, cache_folder):
    """In an empty folder with a kernel of its own, so that every command in it runs too."""
    manager = started(tmp_path, cache_folder)
    try:
        done = execute(nbformat.read(path, 4), manager)
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    page = tmp_path / "page.html"
    page.write_text(as_page(done))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=20000", "--enable-logging=stderr"]
    command += ["--dump-dom", page.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "CONSOLE" not in answer.stderr
    figures = sum(PLOT in output.get("data", {}) for output in outputs(done))
    assert figures >= 1
    assert answer.stdout.count('class="main-svg"') >= figures
