"""What SISA forgets leaves no trace in its models, and a deletion that trains nothing again is found."""

import importlib.util
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "forgetting.py"
_SPEC = importlib.util.spec_from_file_location("forgetting", _SCRIPT)
forgetting = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(forgetting)


def test_a_deletion_leaves_no_trace_and_one_in_the_log_alone_is_found():
    found = forgetting.audit_forgetting()
    assert found.auc_low < 0.5 < found.auc_high
    assert found.auc_high - found.auc_low < 0.25
    assert forgetting.audit_forgetting(forgetting.ForgetsInTheLog).auc_low > 0.5
