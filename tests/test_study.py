"""The study of docs/study.md, by its one command in its small form, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_study_runs_by_one_command_from_an_empty_folder(tmp_path, cache_folder):
    command = [sys.executable, ROOT / "benchmarks" / "revisiting.py", "--to", tmp_path / "study", "--small"]
    environment = os.environ | {"FAIRSWEEP_CACHE": str(cache_folder)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=900)
    page = (tmp_path / "study" / "study.md").read_text()
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert sections == re.findall(r"^## (.+)$", (ROOT / "docs" / "study.md").read_text(), re.MULTILINE)
    for figure in re.findall(r"!\[.+\]\((.+)\)", page):
        assert (tmp_path / "study" / figure).stat().st_size > 10_000
    assert "nan" not in page
    assert not re.search(r"\{\w", page.replace("{release: winner}", ""))
