"""Who may import whom, read from the source text of the four packages: rooms, no cycles, and who may touch Ray.

Lazy imports and those under ``TYPE_CHECKING`` count: an arrow that only a reader sees confuses the reader all the same.
"""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datasets", "trainables", "analysis", "sweeps")
MAY_IMPORT = {
    "datasets": {"datasets"},
    "analysis": {"analysis"},
    "trainables": {"trainables", "datasets", "analysis"},
    "sweeps": {"sweeps", "trainables", "datasets", "analysis"},
}
# Of each package, from the lowest room to the highest: a room imports itself, and rooms before it that it names.
# "all" stands for every room before it, "" for the files that lie in the package itself.
ROOMS: dict[str, dict[str, str]] = {
    "analysis": {
        "extras": "",
        "lazy": "extras",
        "own_code": "",
        "wording": "",
        "accounting": "",
        "disclosure": "",
        "records": "extras disclosure",
        "checking": "records",
        "metrics": "own_code",
        "statistics": "metrics",
        "results": "all",
        "importing": "all",
        "contrasts": "all",
        "verdicts": "all",
        "inference": "all",
        "gaps": "all",
        "disagreement": "all",
        "auditing": "all",
        "drawing": "extras",
        "figures": "all",
        "report": "all",
        "comparing": "all",
    },
    "datasets": {
        "storage": "",
        "selection": "storage",
        "feeds": "storage selection",
        "raw": "storage",
        "sources": "storage selection raw",
        "preparation": "all",
    },
    "trainables": {
        "loading": "",
        "layers": "",
        "models": "layers",
        "privacy": "layers",
        "learning": "layers models privacy",
        "auditing": "layers models privacy learning",
        "remedies": "layers models privacy learning",
        "sgd": "layers models privacy learning remedies",
        "dpsgd": "layers models privacy learning auditing remedies",
        "federated": "layers models privacy learning auditing remedies",
        "unlearning": "layers models privacy learning auditing remedies sgd dpsgd",
        "population": "layers models privacy learning remedies sgd",
        "learners": "all",
        "rehearsal": "all",
        "trial": "all",
        "stacks": "layers models privacy learning trial",
        "trained": "all",
        "adapter": "all",
    },
    "sweeps": {
        "syntax": "",
        "spec": "syntax",
        "planning": "syntax spec",
        "store": "syntax spec planning",
        "copies": "syntax spec planning store",
        "views": "syntax spec planning store copies",
        "tracking": "syntax spec planning store",
        "search": "syntax spec planning store",
        "runtime": "syntax spec planning store",
        "execution": "all",
        "testing": "all",
        "sweep": "all",
        "plan": "all",
        "cli": "all",
        "__main__": "all",
    },
}
LARGEST_ROOM = 18
# The adapter, and what hands work to other processes, may import ray; learners and feeds run without it.
MAY_IMPORT_RAY = {
    "trainables/adapter.py",
    "trainables/trial/cohort_workers.py",
    "trainables/unlearning/shard_actors.py",
    "datasets/preparation/preparing.py",
    "datasets/storage/reading.py",
}
# What Ray, Optuna, Opacus, dp-accounting and torch do not document is known to one module for each, which checks that
# it is there.
KNOW_INTERNALS = {
    "analysis/accounting/dp_accounting_internals.py",
    "sweeps/runtime/ray_internals.py",
    "sweeps/search/optuna_internals.py",
    "trainables/privacy/opacus_internals.py",
    "trainables/privacy/torch_internals.py",
}
# Modules without an underscore that their library does not document either.
UNDOCUMENTED = ("ray.air", "ray.tune.execution", "opacus.utils", "opacus.grad_sample.grad_sample_module", "unittest")


def modules(package, root=ROOT):
    return sorted((root / package).rglob("*.py"))


def dotted(path, root=ROOT):
    """The module of a file, without ``fairsweep.``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imported_names(path, root=ROOT):
    """Absolute dotted names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(("fairsweep", *path.relative_to(root).parent.parts)).split(".")
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def arrows(root=ROOT):
    """Of each of our modules the modules of ours that it imports."""
    known = {dotted(path, root): path for package in PACKAGES for path in modules(package, root)}
    found = {}
    for name, path in known.items():
        ours = (imported.removeprefix("fairsweep.") for imported in imported_names(path, root) if "." in imported)
        found[name] = {_longest(imported, known) for imported in ours} - {name, ""}
    return found


def _longest(name, known):
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def room_of(module):
    """Package and room of a module; ``__init__`` of a package, which only hands names on, has none."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def wrong_arrows(root=ROOT):
    """Every import that the tables above do not allow, as a line."""
    wrong = []
    for module, imported in arrows(root).items():
        package, room = room_of(module)
        if not room:
            continue
        rooms = ROOMS[package]
        if room not in rooms:
            wrong.append(f"{module} stands in no room of the table")
            continue
        below = list(rooms)[: list(rooms).index(room)]
        allowed = {room, *(below if rooms[room] == "all" else rooms[room].split())}
        assert allowed <= {room, *below}, f"the row of {package}/{room} names a room that comes later"
        for other in imported:
            theirs, its_room = room_of(other)
            if theirs not in MAY_IMPORT[package] or (theirs == package and its_room and its_room not in allowed):
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def cycles(root=ROOT):
    """Rings of modules that import each other; ``__init__`` of the packages hand names on and are left out."""
    graph = {name: {o for o in others if room_of(o)[1]} for name, others in arrows(root).items() if room_of(name)[1]}
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            ring = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(ring) > 1:
                found.append(sorted(ring))

    for node in graph:
        if node not in index:
            visit(node)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_below_it(package):
    assert modules(package)
    for path in modules(package):
        found = {name.split(".")[1] for name in imported_names(path) if name.startswith("fairsweep.")}
        assert found <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {found - MAY_IMPORT[package]}"


def test_every_import_goes_down_the_table_of_rooms():
    assert wrong_arrows() == []


def test_no_files_import_each_other_in_a_ring():
    assert cycles() == []


def test_rooms_are_small_and_say_what_they_own():
    for package, rooms in ROOMS.items():
        for room in rooms:
            folder = ROOT / package / room
            if not folder.is_dir():
                assert folder.with_suffix(".py").is_file(), f"{package}/{room} is in the table, but not there"
                continue
            assert len(list(folder.glob("*.py"))) <= LARGEST_ROOM, f"{package}/{room} has too many files: divide it"
            sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
            assert sentence, f"{package}/{room}/__init__.py says in a sentence what the room owns"


def test_module_names_are_said_once_in_a_package():
    for package in PACKAGES:
        names = [path.stem for path in modules(package) if path.stem != "__init__"]
        assert sorted(set(names)) == sorted(names), {name for name in names if names.count(name) > 1}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"analysis/records/files.py": "from fairsweep.analysis.report import statements\n"},
            "records.files imports",
        ),
        (
            {
                "sweeps/spec/a.py": "def f():\n    from fairsweep.sweeps.execution import b\n",
                "sweeps/execution/b.py": "",
            },
            "sweeps.spec.a imports sweeps.execution.b",
        ),
        ({"datasets/feeds/feed.py": "from fairsweep.trainables import learners\n"}, "datasets.feeds.feed imports"),
        ({"analysis/loose.py": ""}, "analysis.loose stands in no room"),
    ],
)
def test_a_file_that_breaks_the_table_is_named(tmp_path, files, said):
    for name, text in {"analysis/report/statements.py": "", "trainables/learners.py": "", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert [line for line in wrong_arrows(tmp_path) if said in line]


def test_a_ring_of_files_is_found_though_an_arrow_is_lazy(tmp_path):
    room = tmp_path / "sweeps" / "spec"
    room.mkdir(parents=True)
    (room / "a.py").write_text("from fairsweep.sweeps.spec import b\n")
    (room / "b.py").write_text("def f():\n    from fairsweep.sweeps.spec.a import g\n")
    assert cycles(tmp_path) == [["sweeps.spec.a", "sweeps.spec.b"]]


def top(name):
    return name.split(".")[0]


def test_analysis_needs_neither_torch_nor_ray():
    for path in modules("analysis"):
        assert not {top(n) for n in imported_names(path)} & {"torch", "torchvision", "opacus", "ray"}, path


def test_only_the_adapter_and_what_spreads_work_import_ray():
    for path in [*modules("trainables"), *modules("datasets")]:
        if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_RAY:
            assert "ray" not in {top(n) for n in imported_names(path)}, path


def test_nobody_uses_ray_train_and_only_sweeps_starts_ray():
    for package in PACKAGES:
        for path in modules(package):
            assert not any(n == "ray.train" or n.startswith("ray.train.") for n in imported_names(path)), path
            text = "" if package == "sweeps" else path.read_text()
            if "ray.init" in text or "Tuner" in text:
                calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
                assert not {c for c in calls if c.endswith(("ray.init", "Tuner"))}, path


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(tree):
    """Names that a file binds itself: its functions, classes and variables, and what it sets on its objects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _on_self(node):
            yield node.attr


def _on_self(node):
    return isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


def foreign_private_names(path, root=ROOT):
    """Private names of others that a file touches: attributes, also by ``getattr`` and its kin, and what it imports."""
    tree = ast.parse(path.read_text())
    own = set(own_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own and not _on_self(node):
            if ast.unparse(node) != "os._exit":  # documented, underscore and all
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr", "delattr", "hasattr"}:
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and is_private(str(a.value)))
    for name in imported_names(path, root):
        private = any(map(is_private, name.split("."))) or name.startswith(UNDOCUMENTED)
        if private and not name.startswith("fairsweep."):
            yield name


def test_what_libraries_do_not_document_is_known_to_one_module_each():
    for path in (path for package in PACKAGES for path in modules(package)):
        if path.relative_to(ROOT).as_posix() not in KNOW_INTERNALS:
            assert not list(foreign_private_names(path)), path
    assert all((ROOT / name).is_file() for name in KNOW_INTERNALS)


@pytest.mark.parametrize(
    "line",
    [
        "study._study_id",
        "torch._foreach_add_(a, b)",
        "from ray._private import ray_constants",
        "from ray.air._internal import usage",
        "import ray.tune.execution.class_cache",
        "getattr(scheduler, '_brackets')",
        "from unittest.mock import patch",
    ],
)
def test_a_private_name_of_a_library_is_found(tmp_path, line):
    path = tmp_path / "sweeps" / "a.py"
    path.parent.mkdir()
    path.write_text(f"import os\n\nclass A:\n    def f(self):\n        {line}\n        self._x = os._exit\n")
    assert len(list(foreign_private_names(path, tmp_path))) == 1


def test_the_namespace_has_no_package_of_its_own():
    assert not (ROOT / "fairsweep").exists()
    assert not list(ROOT.glob("*/fairsweep/__init__.py"))


def class_names(root=ROOT):
    """Of every public class of the packages the modules that define it."""
    homes = {}
    for path in (path for package in PACKAGES for path in modules(package, root)):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(dotted(path, root))
    return homes


def test_public_classes_have_names_of_their_own():
    assert {name: homes for name, homes in class_names().items() if len(homes) > 1} == {}


def test_two_classes_of_one_name_are_found(tmp_path):
    for name in ("datasets/storage/a.py", "sweeps/store/b.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("class Place:\n    pass\n")
    assert class_names(tmp_path) == {"Place": ["datasets.storage.a", "sweeps.store.b"]}
