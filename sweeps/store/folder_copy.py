"""Copies of folders on file systems that can only write, read and delete whole files.

No lock, no map and no rename touches the copy. A copy is the files under their own names and a manifest in ``.copy``,
written last: where each file lies, its size and its SHA-256. A copy that was cut short has no manifest that holds, and
counts as absent; until a newer one holds, the one before it does: a file that is replaced is first written beside the
old one, under a name that the new manifest points to, and only then under its own.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from fairsweep.analysis.records.files import write_whole
from fairsweep.datasets.storage.location import Location

INSIDE = ".copy"
# Object stores have no folders to make.
_FLAT = ("s3", "gcs", "abfs")

Listing = Mapping[str, int]
Owner = tuple[int, int]


class CopyError(OSError):
    """The file system of a copy failed; what was copied before still holds."""


class StaleCopyError(RuntimeError):
    """A later owner has written to the copy: this one must not write any more."""


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy.

    Attributes:
        at: where its content lies, relative to the copy.
        bytes: its size.
        sha256: of its content.
    """

    at: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a whole copy holds.

    Attributes:
        number: manifests of one copy are counted up.
        owner: number of the driver's run and of the attempt that wrote it; (0, 0) where nobody competes.
        files: the files by name.
        gone: files of the copy before that are to be deleted.
    """

    number: int
    owner: Owner
    files: Mapping[str, CopiedFile]
    gone: tuple[str, ...] = ()

    def text(self) -> bytes:
        """As JSON."""
        files = {name: asdict(file) for name, file in self.files.items()}
        content = {"number": self.number, "owner": list(self.owner), "files": files, "gone": list(self.gone)}
        return json.dumps(content, indent=1).encode()

    @classmethod
    def of(cls, text: bytes) -> Manifest:
        """Return the inverse of `text`.

        Raises:
            ValueError: if it was cut short.
        """
        try:
            content = json.loads(text)
            files = {name: CopiedFile(**file) for name, file in content["files"].items()}
            run, attempt = content["owner"]
            return cls(int(content["number"]), (int(run), int(attempt)), files, tuple(content["gone"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no manifest ({error!r})") from error


class FolderCopy:
    """One folder's copy.

    Args:
        place: where it is; made with the first file.
        apart: folders directly inside that are no part of it.
    """

    def __init__(self, place: Location, apart: tuple[str, ...] = ()) -> None:
        self.place = place
        self._apart = apart
        self._digests: dict[str, tuple[tuple[int, int, int], str]] = {}

    def publish(self, files: Mapping[str, Path], owner: Owner = (0, 0), *, add: bool = False) -> int:
        """Bring the copy up to a set of files; what is the same already is not written again.

        Args:
            files: local files by their name in the copy; nobody may change them meanwhile.
            owner: run and attempt of the writer.
            add: whether files of the copy that are not named stay; otherwise they are deleted.

        Returns:
            How many files were written.

        Raises:
            StaleCopyError: if a later owner has written.
            CopyError: if the file system fails; the copy is what it was before.
        """
        try:
            return self._publish(files, owner, add)
        except pa.ArrowException as error:
            raise CopyError(f"{self.place}: {' '.join(str(error).split())}") from error

    def manifests(self, listing: Listing | None = None) -> Iterator[Manifest]:
        """Return the manifests whose files are all there, in their right sizes; newest first.

        Args:
            listing: sizes of all files of the copy by name, if they are known; None asks the file system.
        """
        sizes = list_files(self.place, self._apart) if listing is None else listing
        for name in sorted((name for name in sizes if _is_manifest(name)), reverse=True):
            try:
                manifest = Manifest.of(self.place.read(name))
            except (OSError, ValueError):
                continue  # cut short
            if all(sizes.get(file.at) == file.bytes for file in manifest.files.values()):
                yield manifest

    def newest(self, listing: Listing | None = None) -> Manifest | None:
        """Return the newest of them; None if there is no whole copy."""
        return next(self.manifests(listing), None)

    def fetch(self, folder: Path, names: frozenset[str] | None = None, listing: Listing | None = None) -> bool:
        """Bring the newest copy whose contents are what they should be into a local folder.

        Args:
            folder: made if missing; files of other names stay.
            names: those wanted; None takes all.
            listing: see `manifests`.

        Returns:
            Whether there was a whole copy.

        Raises:
            CopyError: if the file system fails.
        """
        try:
            for manifest in self.manifests(listing):
                wanted = {name: file for name, file in manifest.files.items() if names is None or name in names}
                contents = {name: self._content(file) for name, file in wanted.items()}
                if None not in contents.values():
                    for name, content in contents.items():
                        _write_local(folder / name, content or b"")
                    return True
        except pa.ArrowException as error:
            raise CopyError(f"{self.place}: {' '.join(str(error).split())}") from error
        return False

    # --- inside ---

    def _publish(self, files: Mapping[str, Path], owner: Owner, add: bool) -> int:
        listing = list_files(self.place, self._apart)
        before = self.newest(listing)
        if before is not None and before.owner > owner:
            raise StaleCopyError(f"{self.place} was written by attempt {before.owner}, so {owner} must not any more")
        known = {} if before is None else dict(before.files)
        digests = {name: self._digest(name, path) for name, path in files.items()}
        changed = [name for name in files if name not in known or known[name].sha256 != digests[name]]
        gone = {name for name in known if name not in files and not add}
        left = {name for name in (before.gone if before else ()) if name in listing and name not in files}
        moved = any(file.at != name for name, file in known.items() if name in files)
        if before is not None and before.owner == owner and not (changed or gone or left or moved):
            return 0
        number = 1 + max([int(name.split("/")[1][:6]) for name in listing if _is_manifest(name)], default=0)
        held = {name: file for name, file in known.items() if name not in gone}
        for name in changed:
            held[name] = self._write(files[name], f"{INSIDE}/{number:06d}/{name}" if name in known else name)
        manifest = Manifest(number, owner, held, tuple(sorted(gone | left)))
        last = self._write_manifest(manifest)
        replaced = [name for name, file in held.items() if file.at != name and name in files]
        if replaced:
            held = held | {name: self._write(files[name], name) for name in replaced}
            last = self._write_manifest(replace(manifest, number=number + 1, files=held))
        self._delete({last, *(file.at for file in held.values())}, gone | left)
        return len(changed)

    def _digest(self, name: str, path: Path) -> str:
        stat = path.stat()
        signature = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if name not in self._digests or self._digests[name][0] != signature:
            self._digests[name] = signature, hashlib.sha256(path.read_bytes()).hexdigest()
        return self._digests[name][1]

    def _write(self, source: Path, at: str) -> CopiedFile:
        content = source.read_bytes()
        write_file(self.place, at, content)
        return CopiedFile(at, len(content), hashlib.sha256(content).hexdigest())

    def _write_manifest(self, manifest: Manifest) -> str:
        # Two writers that know nothing of each other must not write to one file.
        name = f"{INSIDE}/{manifest.number:06d}-{uuid.uuid4().hex[:8]}.json"
        write_file(self.place, name, manifest.text())
        return name

    def _delete(self, kept: set[str], gone: set[str]) -> None:
        """Delete what is gone and what older manifests name: first those, so that none names what is not there.

        Nothing else is touched: a mirror may lie in a folder that holds other things too.
        """
        inside = {f"{INSIDE}/{name}" for name in list_files(child(self.place, INSIDE))} - kept
        for name in sorted(inside, key=lambda name: (not _is_manifest(name), name)):
            self.place.filesystem.delete_file(self.place.path(name))
        if self.place.filesystem.type_name not in _FLAT:
            used = {name.split("/")[1] for name in kept if name.startswith(f"{INSIDE}/")}
            for info in self.place.filesystem.get_file_info(fs.FileSelector(self.place.path(INSIDE))):
                if info.type == fs.FileType.Directory and info.base_name not in used:
                    self.place.filesystem.delete_dir(info.path)
        for name in sorted(gone):
            if self.place.describe(name).is_file:
                self.place.filesystem.delete_file(self.place.path(name))

    def _content(self, file: CopiedFile) -> bytes | None:
        content = self.place.read(file.at)
        return content if hashlib.sha256(content).hexdigest() == file.sha256 else None


def child(place: Location, name: str) -> Location:
    """Return a folder inside another one."""
    return Location(place.filesystem, place.path(name), f"{place.name.rstrip('/')}/{name}")


def list_files(place: Location, apart: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the sizes of all files below a folder, by name relative to it; empty where there is no folder.

    Args:
        place: the folder.
        apart: folders directly inside that are left out.
    """
    below = len(place.root) + 1
    waiting = [fs.FileSelector(place.root, recursive=not apart, allow_not_found=True)]
    sizes: dict[str, int] = {}
    while waiting:
        for info in place.filesystem.get_file_info(waiting.pop()):
            if info.is_file:
                sizes[info.path[below:]] = info.size
            elif apart and info.path.rpartition("/")[0] == place.root and info.base_name not in apart:
                waiting.append(fs.FileSelector(info.path, recursive=True, allow_not_found=True))
    return sizes


def write_file(place: Location, name: str, content: bytes) -> None:
    """Write one whole file below a folder, in place."""
    path = place.path(name)
    if place.filesystem.type_name not in _FLAT:
        place.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with place.filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _is_manifest(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and parts[0] == INSIDE and parts[1][:6].isdigit() and name.endswith(".json")


def _write_local(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(content))
