"""Whatever the locale says, a command reads and writes UTF-8, and no stream breaks it."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from pathlib import Path
from fairsweep.sweeps.cli.text_encoding import speak_utf8
speak_utf8()
print(Path(sys.argv[1]).read_text())
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("variables", "printed"),
    [(ASCII, "ε = 3"), ({"PYTHONIOENCODING": "ascii"}, "? = 3"), (ASCII | {"PYTHONIOENCODING": "ascii"}, "? = 3")],
)
def test_texts_are_read_and_printed_in_every_locale(tmp_path, variables, printed):
    file = tmp_path / "a file"
    file.write_text("ε = 3", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONIO"))}
    command = [sys.executable, "-P", "-c", CODE, str(file)]
    answer = subprocess.run(command, env=environment | variables, capture_output=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.decode("utf-8").strip() == printed
