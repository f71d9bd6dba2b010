"""The cells of one evaluation as a table: codes are replaced by names."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.records.cell_records import CellsFile, group_column


def named_cells(file: CellsFile, iteration: int | None = None) -> pa.Table:
    """Return the cells of one iteration, on every split.

    Args:
        file: the cells of a trial.
        iteration: which one; None takes the last.

    Returns:
        Columns ``iteration``, ``split``, each group (see `group_column`), ``label``, ``prediction`` (names), ``count``.
    """
    table = file.table
    last = pc.max(table.column("iteration")).as_py() if iteration is None else iteration
    table = table.filter(pc.equal(table.column("iteration"), last))
    columns = {name: table.column(name) for name in table.column_names}
    attributes = {group_column(name): name for name in file.groups} | dict.fromkeys(("label", "prediction"), file.label)
    for name, attribute in attributes.items():
        values = file.vocabularies[attribute].values
        columns[name] = pa.array([values[code] for code in table.column(name).to_pylist()], pa.string())
    return pa.table(columns)
