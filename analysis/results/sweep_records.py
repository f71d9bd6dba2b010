"""The records of a sweep as tables, read when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.checking.contradictions import contradictions
from fairsweep.analysis.metrics.own_metrics import sweep_metrics
from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.records.counts import FRAME_COLUMNS, Cells
from fairsweep.analysis.records.file_names import CELLS, EXAMPLES, PREDICTIONS, SWEEP_JSON, TRAINING
from fairsweep.analysis.records.files import RecordError, SweepLocation
from fairsweep.analysis.records.loading import Problem, read_each
from fairsweep.analysis.records.prediction_records import PREDICTIONS_SCHEMA, read_examples
from fairsweep.analysis.records.record_cache import LEAST_TRIALS
from fairsweep.analysis.records.training_records import CLIENT_TYPE, DIAGNOSTIC_TYPE, TRAINING_SCHEMA
from fairsweep.analysis.records.trial_cells import CellSchema
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.analysis.results.opened_sweeps import joined_sweep, open_sweeps
from fairsweep.analysis.results.trials import trials_table

R = TypeVar("R")
_SOURCE_PATH = "source_path"
_LISTED = 20
_NO_ATTRIBUTES = frozenset({"id", "user", "split", _SOURCE_PATH})

MIN_GROUP_SIZE = 20
"""Examples from which on a group is ranked, where the sweep's file states no other number."""


def one_of(given: Any, known: Iterable[Any], what: str) -> Any:  # noqa: ANN401 - values of any column
    """Return what is among the known values; refuse what is not, and list them.

    Raises:
        ValueError: if it is none of them.
    """
    values = list(known)
    if given not in values:
        more = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
        raise ValueError(f"{what} must be one of {values[:_LISTED]}{more}, but got {given!r}")
    return given


class SweepRecords:
    """The records of a sweep.

    Works while the sweep runs: what is not there yet is missing from the tables, and `problems` lists whatever is
    missing or damaged though its trial says it is done.

    Attributes:
        location: the output folder; of several sweeps that of the first.
        sweep: ``sweep.json``, or an empty mapping; see `fairsweep.analysis.results.opened_sweeps.joined_sweep`.
        folders: the small records of every trial.
        former: names of the folders of trials that belong to earlier versions of the sweep and are left out; see
            `fairsweep.analysis.records.membership`.
        trials: one row per trial, by learner (in the order of the sweep file), level and replicate; its columns are
            those of `fairsweep.analysis.results.trials.trials_table`.
        min_group_size: groups with fewer examples (people, where the data names them) are listed, not ranked.
    """

    def __init__(
        self,
        *locations: SweepLocation,
        cache: bool = True,
        former: bool = False,
        own_metrics: bool = True,
        min_group_size: int | None = None,
    ) -> None:
        self._sources = open_sweeps(locations, cache=cache, former=former)
        self.former = tuple(sorted(name for source in self._sources for name in source.former))
        self._problems: list[Problem] = []
        self._is_checked = False
        self._runs_code = own_metrics
        self.location = self._sources[0].location
        self.sweep = joined_sweep(self._sources)
        stated = (self.sweep.get("sweep", {}).get("analysis") or {}).get("min_group_size", MIN_GROUP_SIZE)
        self.min_group_size = int(stated if min_group_size is None else min_group_size)
        if self.min_group_size < 1:
            raise ValueError(f"min_group_size must be at least 1, but got {min_group_size=}: 1 ranks every group")
        self.folders: list[TrialFolder]
        self.trials: pd.DataFrame
        self.folders, self.trials = self._in_order([folder for source in self._sources for folder in source.folders])

    def __repr__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in self.trials["state"].value_counts().items())
        return f"{type(self).__name__}({self.name!r}, trials: {states or 'none'}, problems: {len(self.problems)})"

    # --- what there is ---

    @property
    def name(self) -> str:
        """Return the name of the sweep; without ``sweep.json`` the name of its folder."""
        return str(self.sweep.get("name") or self.location.path.rsplit("/", 1)[-1])

    @property
    def problems(self) -> pd.DataFrame:
        """Return what could not be read, and what contradicts itself: columns ``trial``, ``file``, ``message``.

        Grows as files are read. Contradictions are looked for in sweeps of fewer than `LEAST_TRIALS` trials;
        ``fairsweep check`` looks for them in all.
        """
        if not self._is_checked and len(self.folders) < LEAST_TRIALS:
            self._problems += contradictions(folder for folder in self.folders if folder.is_whole)
        self._is_checked = True
        listed = [*(problem for source in self._sources for problem in source.problems), *self._problems]
        rows = [(problem.trial, problem.file, problem.message) for problem in dict.fromkeys(listed)]
        return pd.DataFrame(rows, columns=["trial", "file", "message"])

    @property
    def label(self) -> str:
        """Return the attribute that is predicted."""
        return self.all_cells.label

    @property
    def unit(self) -> str:
        """Return the noun of what is predicted: an image, or what imported predictions are of."""
        return str((self.sweep.get("dataset") or {}).get("unit") or "image")

    @property
    def named_folder(self) -> str:
        """Return the sweep's folder as its file names it; a file that names none has its folder below ``runs``."""
        spec = self.sweep.get("sweep", {})
        return str(spec.get("output") or (f"runs/{self.name}" if "learners" in spec else self.name))

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the attributes whose values are the groups."""
        return self.all_cells.groups

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return every attribute of the images that results can be had ``by``: the groups, the label, all others."""
        return tuple(dict.fromkeys((*self.groups, self.label, *self.all_cells.vocabularies)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes as a sweep file names them."""
        return self.all_cells.classes

    def vocabulary(self, attribute: str) -> Vocabulary:
        """Return the values of an attribute, as the sweep file names them; see `attributes`.

        Raises:
            ValueError: if the images have no such attribute.
        """
        return self.all_cells.vocabularies[one_of(attribute, self.attributes, "attribute")]

    def further_metrics(self) -> tuple[str, ...]:
        """Return the rates and scores that the sweep file names, those of the user's own as the sweep defines them.

        Runs the text of their files, which was stored with the sweep, unless it was loaded with ``own_metrics=False``.
        """
        names: list[str] = []
        for source in self._sources if self._runs_code else ():
            found, wrong = sweep_metrics(source.sweep.get("sweep") or {})
            names += found
            self._problems += [Problem.of_sweep(source.location, SWEEP_JSON, line) for line in wrong]
        return tuple(dict.fromkeys(names))

    # --- tables of records ---

    def cells(self) -> pd.DataFrame:
        """Return all cells: ``trial``, ``iteration``, ``split``, each group, ``label``, ``prediction``, ``count``.

        A group that is called as another column stands in ``group:label`` (``group:count``, …).
        """
        return self.all_cells.frame()

    def predictions(
        self, trials: Sequence[str] | None = None, columns: Sequence[str] | None = None, *, names: bool = False
    ) -> pa.Table:
        """Return the predictions of the last and of the validation-selected iteration, with the name of the ``trial``.

        Args:
            trials: names of trials; None takes all.
            columns: some of the file's columns; None takes all.
            names: write ``label`` and ``prediction`` as the sweep file names the classes, not as codes.
        """
        for name in set(trials or ()).difference(self.trials["trial"]):
            one_of(name, self.trials["trial"], "trial")
        for column in columns or ():
            one_of(column, PREDICTIONS_SCHEMA.names, "column")
        chosen = [folder for folder in self.folders if trials is None or folder.name in set(trials)]
        found = self.read_each(chosen, PREDICTIONS, lambda folder: folder.predictions(columns))
        kept = [field for field in PREDICTIONS_SCHEMA if columns is None or field.name in columns]
        schema = pa.schema([*kept, pa.field("trial", pa.string())])
        tables = [
            table.append_column("trial", pa.repeat(name, len(table))).select(schema.names).cast(schema)
            for name, table in found.items()
        ]
        found_all = pa.concat_tables([schema.empty_table(), *tables])
        for name in {"label", "prediction"}.intersection(found_all.column_names) if names else ():
            codes = found_all.column(name)
            known = pa.array(self.classes).take(codes.combine_chunks())
            found_all = found_all.set_column(found_all.column_names.index(name), name, known)
        return found_all

    @cached_property
    def outcomes_read(self) -> dict[Hashable, Any]:
        """Keep what `fairsweep.analysis.results.outcomes.read_outcomes` has read last."""
        return {}

    @cached_property
    def examples(self) -> pa.Table | None:
        """Return ``examples.parquet``: ``id``, ``split``, codes of every attribute; None if there is none.

        Of several sweeps each example once: their trials are counted together only if they are of one dataset.
        """
        found: list[pa.Table] = []
        for source in self._sources:
            place = source.location / EXAMPLES
            try:
                found.append(read_examples(place.path, place.filesystem))
            except FileNotFoundError:
                continue
            except (RecordError, OSError) as error:
                self._problems.append(Problem.of_sweep(source.location, EXAMPLES, error))
        if len(found) < 2:
            return found[0] if found else None
        table = pa.concat_tables([table.replace_schema_metadata(None) for table in found], promote_options="default")
        return table.take(np.sort(np.unique(table.column("id").to_numpy(), return_index=True)[1]))

    def source_paths(self, ids: npt.ArrayLike) -> pd.Series:
        """Return where images lie in the raw data: from a prediction's ``id`` back to its picture.

        Args:
            ids: of examples, for instance ``results.predictions().column("id")``; any number of them.

        Returns:
            A path for each id, in their order, relative to the folder or archive that was prepared; missing for an id
            that the sweep does not know. The index holds the ids.

        Raises:
            RecordError: if the sweep has no paths: its source has no files, it ran in release mode, or the dataset was
                prepared by an earlier fairsweep.
        """
        wanted = pd.Index(np.asarray(ids, np.int64), name="id")
        examples = self.examples
        if examples is None or _SOURCE_PATH not in examples.column_names:
            raise RecordError(
                f"{EXAMPLES} must have a column {_SOURCE_PATH}, but has none: the images have no files, the "
                "sweep ran in release mode, or its dataset must be prepared anew"
            )
        known: pd.Series = examples.select(["id", _SOURCE_PATH]).to_pandas().set_index("id")[_SOURCE_PATH]
        return known.reindex(wanted)

    def training(self) -> pd.DataFrame:
        """Return the course of training.

        Columns: ``trial``, ``iteration``, ``loss``, ``seconds``, ``examples``, ``l2_clip_norm``.
        """
        return self._training.drop(columns=["diagnostics", "clients"])

    def diagnostics(self) -> pd.DataFrame:
        """Group diagnostics of private learners in long form, one row per iteration, group and label.

        Columns: ``trial``, ``iteration``, ``attribute``, ``value`` and ``label`` (as a sweep file names them),
        ``count``, ``mean_gradient_norm``, ``clipped_share``, ``cosine``.
        """
        parts = self._listed("diagnostics", DIAGNOSTIC_TYPE)
        parts["label"] = [self.classes[code] for code in parts["label"]]
        return parts

    def clients(self) -> pd.DataFrame:
        """Return how groups of federated clients fared, in long form: one row per iteration and group of clients.

        A client belongs to the group that most of its examples have. Columns: ``trial``, ``iteration``, ``attribute``
        and ``value`` (as a sweep file names them; both empty for all clients), ``clients``, ``accuracy_mean``,
        ``accuracy_variance``, ``accuracy_worst_decile``, ``updates``, ``mean_update_norm``, ``clipped_share``,
        ``cosine``.
        """
        return self._listed("clients", CLIENT_TYPE)

    def _listed(self, column: str, kind: pa.StructType) -> pd.DataFrame:
        """Return the entries of a column of lists, one row each, codes of groups as names."""
        rows = self._training[["trial", "iteration", column]]
        rows = rows[rows[column].map(lambda entries: isinstance(entries, np.ndarray) and len(entries) > 0).astype(bool)]
        rows = rows.explode(column, ignore_index=True)
        parts = pd.DataFrame(rows[column].tolist(), columns=[field.name for field in kind])
        if len(parts):
            known = self.all_cells.vocabularies
            parts["value"] = [
                (known[name].values[code] if name in known else str(code)) if name else ""
                for name, code in zip(parts["attribute"], parts["value"], strict=True)
            ]
        return pd.concat([rows[["trial", "iteration"]], parts], axis=1)

    def training_counts(self) -> pd.DataFrame:
        """Realised training counts: ``trial``, a column for each group, ``label``, ``count``; values as names.

        Release mode records none.

        A group that is called as another column stands in ``group:label`` (``group:count``, …).
        """
        columns = {name: (group_column(name), group_column(name, FRAME_COLUMNS)) for name in self.groups}
        recorded, shown = zip(*columns.values(), ("label", "label"), ("count", "count"), strict=True)
        rows = [
            (folder.name, *(row.get(column) for column in recorded))
            for folder in self.folders
            if folder.data
            for row in folder.data.get("counts") or ()
        ]
        frame = pd.DataFrame(rows, columns=["trial", *shown])
        for column, attribute in zip(shown[:-1], (*self.groups, self.label), strict=True):
            values = np.array(self.vocabulary(attribute).values, object)
            frame[column] = values[frame[column].to_numpy(np.int64)]
        return frame

    # --- inside ---

    def _in_order(self, folders: list[TrialFolder]) -> tuple[list[TrialFolder], pd.DataFrame]:
        named = [learner.get("name") for learner in self.sweep.get("sweep", {}).get("learners", [])]
        table = trials_table(folders, (self.sweep.get("dataset") or {}).get("shown"))
        place = [named.index(name) if name in named else len(named) for name in table["learner"]]
        keys = ["place", "learner", "series", "level_value", "replicate", "trial"]
        order = table.assign(place=place).sort_values(keys, kind="stable").index
        return [folders[i] for i in order], table.loc[order].reset_index(drop=True)

    def read_each(
        self, folders: Sequence[TrialFolder], file: str, read: Callable[[TrialFolder], R | None]
    ) -> dict[str, R]:
        """Read one file of some trials, by name of the trial; what cannot be read is among the `problems`."""
        found, problems = read_each(folders, file, read)
        self._problems += problems
        return found

    @cached_property
    def all_cells(self) -> Cells:
        """Return the cells of every trial, in columns.

        Trials of another label, groups or vocabularies than most belong to another sweep: they are left out, and
        `problems` names them.
        """
        found = {name: cells for source in self._sources for name, cells in source.cells().items()}
        found = {folder.name: found[folder.name] for folder in self.folders if folder.name in found}
        usual = Counter(schema for schema, _ in found.values()).most_common(1)
        strange = {name for name, (schema, _) in found.items() if schema != usual[0][0]}
        message = (
            "its label, groups or vocabularies differ from those of most trials, so it is left out; keep different "
            "sweeps in different folders"
        )
        self._problems += [Problem(name, CELLS, message) for name in found if name in strange]
        schema = usual[0][0] if usual else CellSchema("", (), ())
        kept = {name: cells for name, (_, cells) in found.items() if name not in strange}
        return Cells(schema, kept, self._recorded_attributes())

    def _recorded_attributes(self) -> list[Vocabulary]:
        """Return the attributes in ``examples.parquet``; as codes where ``sweep.json`` has no names."""
        dataset, examples = self.sweep.get("dataset") or {}, self.examples
        named, shown = dataset.get("values") or {}, dataset.get("shown") or {}
        found: list[Vocabulary] = []
        if examples is None:
            return found
        for field in examples.schema:
            if field.name in _NO_ATTRIBUTES or not pa.types.is_integer(field.type):
                continue
            codes = range((pc.max(examples.column(field.name)).as_py() or 0) + 1)
            values = tuple(named.get(field.name) or map(str, codes))
            display = shown.get(field.name, {})
            found.append(Vocabulary(field.name, values, tuple(display.get(value, value) for value in values)))
        return found

    @cached_property
    def _training(self) -> pd.DataFrame:
        found = self.read_each(self.folders, TRAINING, TrialFolder.training)
        parts = [table.to_pandas().assign(trial=name) for name, table in found.items()]
        columns = ["trial", *TRAINING_SCHEMA.names]
        if not parts:
            return pd.DataFrame(columns=columns)
        # Records of an earlier version lack the newest columns.
        table: pd.DataFrame = pd.concat(parts, ignore_index=True).reindex(columns=columns)
        return table
