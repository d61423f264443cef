"""Labels from a table: CSV (with commas, semicolons or tabs; UTF-8) or Parquet, one row a picture."""

from __future__ import annotations

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pellucid.data.layout import SPLIT_NAMES, Entries
from pellucid.data.sources import Files, Folder
from pellucid.data.task import LABELS, NONE, ONE_CLASS, Task
from pellucid.data.wording import counted, shown, some
from pellucid.errors import DataError, MissingExtraError, UnknownNameError, nearest

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
_USUAL_NAMES = {
    "path": ("path", "file", "filename", "image", "image_path"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id"),
}

Columns = dict[str, list[str]]  # name -> the values as text, one a row, "" for none


def read_table(data: bytes, name: str) -> Columns:
    """The columns of the table in the file `name`.

    Raises DataError when it cannot be parsed or has no rows, MissingExtraError when Parquet needs pyarrow.
    """
    columns = _parquet(data, name) if name.lower().endswith(".parquet") else _csv(data, name)
    if not any(columns.values()):
        raise DataError(f"The table '{shown(name)}' has no rows; expected a header and a row a picture.")
    return columns


def read_rows(
    columns: Columns, asked: Mapping[str, str | None], files: Files, *, base: str, name: str, task: Task = ONE_CLASS
) -> Entries:
    """The pictures that the table `name` lists, with paths that start from the folder `base` of `files`.

    `asked` names the columns of path, label, split and group; None is guessed from usual names, "" is no
    column. A file that is missing stays, as a picture that cannot be read, unless most are missing: then the
    folder is the wrong one. A row that is repeated counts once.
    Raises UnknownNameError for a column that is not there, DataError for rows that cannot be used.
    """
    chosen = {kind: _choose(kind, asked.get(kind), columns, name) for kind in _USUAL_NAMES}
    guessed = [kind for kind in ("path", "label", "split") if chosen[kind] and not asked.get(kind)]
    notes = [f"{kind}s: column '{shown(str(chosen[kind]))}'" for kind in guessed]
    none = [""] * len(next(iter(columns.values())))
    given, labels, splits, groups = (columns[c] if c else none for c in chosen.values())
    labels, splits, groups = ([value.strip() for value in values] for values in (labels, splits, groups))
    if chosen["group"]:
        notes.append(f"groups: column '{shown(chosen['group'])}', {counted(len({*groups} - {''}), 'group')}")
    if empty := [row for row, cells in enumerate(zip(given, labels, strict=True), 1) if not all(cells)]:
        word = f"; a picture with none of the labels has the word {NONE}" if task.kind == LABELS else ""
        raise DataError(
            f"{counted(len(empty), 'row')} of '{shown(name)}' without a path or a label: {_rows(empty)}. "
            f"Expected both in every row{word}; fill them in, or remove these rows."
        )
    labels = task.read(labels, lambda positions: _rows([i + 1 for i in positions]))
    paths, missing = _locate(given, files, base)
    if 2 * len(missing) > len(paths):
        raise DataError(
            f"Of {counted(len(paths), 'picture')} in '{shown(name)}' {len(missing):,} are missing: "
            f"{some(missing)}. Expected paths that start from the folder of the table; name another folder "
            "with --root (root=...)."
        )
    if missing:
        notes.append(f"{counted(len(missing), 'file')} of '{shown(name)}' missing: {some(missing)}")

    rows = list(zip(paths, labels, _splits(splits, name), groups, strict=True))
    unique = list(dict.fromkeys(rows))
    times = Counter(path for path, *_ in unique)
    if unlike := [f"{row[0]} ({', '.join(filter(None, row[1:]))})" for row in unique if times[row[0]] > 1]:
        raise DataError(
            f"Rows of '{shown(name)}' contradict each other: {some(unlike)}. Expected one row a picture, "
            "with one label (several labels in one cell), one split and one group; correct these rows."
        )
    if len(unique) < len(rows):
        notes.append(f"{counted(len(rows) - len(unique), 'row')} of '{shown(name)}' left out as repeated")
    return Entries(
        paths=[row[0] for row in unique],
        labels=[row[1] for row in unique],
        splits=[row[2] or None for row in unique],
        groups=[row[3] or None for row in unique],
        column=str(chosen["label"]),
        notes=notes,
    )


def _choose(kind: str, asked: str | None, columns: Columns, name: str) -> str | None:
    """The column of a kind, None for none."""
    listed = ", ".join(f"'{shown(column)}'" for column in columns)
    if asked:
        if asked in columns:
            return asked
        if kind == "group" and "(" in asked:  # a pattern
            return None
        raise UnknownNameError(
            f"The table '{shown(name)}' has no column '{shown(asked)}' for the {kind}s; its columns are "
            f"{listed}. {nearest(asked, columns)}".rstrip()
        )
    usual = [] if asked == "" else [c for u in _USUAL_NAMES[kind] for c in columns if c.lower() == u]
    if kind == "split":  # a column named set may hold anything
        usual = [c for c in usual if any(value.strip().lower() in SPLIT_NAMES for value in columns[c])]
    if not usual and kind in ("path", "label"):
        raise DataError(
            f"The table '{shown(name)}' has no column with a usual name for {kind}s "
            f"({', '.join(_USUAL_NAMES[kind])}); its columns are {listed}. Name the right one with "
            f"--{kind}-column ({kind}_column=...)."
        )
    return usual[0] if usual else None


def _locate(given: Sequence[str], files: Files, base: str) -> tuple[list[str], list[str]]:
    """The paths in `files`, and those that are missing there.

    A file that is not there as written may be there without blanks around the path and with / for \\.
    """
    paths, missing = [], []
    for text in given:
        path = _joined(base, text, files)
        if not files.has_file(path):
            other = _joined(base, text.strip().replace("\\", "/"), files)
            if files.has_file(other):
                path = other
            else:
                missing.append(path)
        paths.append(path)
    return paths, missing


def _joined(base: str, path: str, files: Files) -> str:
    """`path` from the folder `base`, without empty parts; relative where it lies below the root."""
    path = posixpath.join(base, path)
    absolute = path.startswith("/")
    path = "/" * absolute + "/".join(part for part in path.split("/") if part not in ("", "."))
    return path.removeprefix(f"{files.root}/") if absolute and isinstance(files, Folder) else path


def _splits(values: Sequence[str], name: str) -> list[str]:
    """train, validation, test, or "" where there is none."""
    if unknown := {value for value in values if value and value.lower() not in SPLIT_NAMES}:
        raise DataError(
            f"The splits of '{shown(name)}' hold {some(unknown)}; expected train, validation (val, valid, "
            "dev) or test. Correct them, or name another column with --split-column (split_column=...)."
        )
    return [SPLIT_NAMES.get(value.lower(), "") for value in values]


def _csv(data: bytes, name: str) -> Columns:
    try:
        text = data.decode("utf-8-sig").lstrip("\r\n")
        delimiter = max(",;\t", key=lambda d: len(next(_lines(text, d), [])))
        header, *rows = [cells for cells in _lines(text, delimiter, strict=True) if cells] or [[]]
    except UnicodeDecodeError as error:
        raise DataError(
            f"The table '{shown(name)}' is no UTF-8 text: byte {error.start:,} is {data[error.start]:#04x}. "
            "Save it as 'CSV UTF-8'."
        ) from error
    except csv.Error as error:
        raise DataError(f"The table '{shown(name)}' is no CSV: {error}. Save it again as CSV.") from error
    header = [column.strip() for column in header]
    if repeated := {column for column in header if header.count(column) > 1}:
        raise DataError(f"'{shown(name)}' has two columns {some(repeated)}; give each a name of its own.")
    if uneven := [row for row, cells in enumerate(rows, 1) if len(cells) != len(header)]:
        raise DataError(
            f"{counted(len(uneven), 'row')} of '{shown(name)}' with more or fewer than the {len(header)} "
            f"cells of the header: {_rows(uneven)}. Put a cell that holds '{shown(delimiter)}' into double "
            "quotes."
        )
    return {column: [row[i] for row in rows] for i, column in enumerate(header)}


def _lines(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)


def _parquet(data: bytes, name: str) -> Columns:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise MissingExtraError(
            f"The table '{shown(name)}' is Parquet, which needs pyarrow: pip install \"pellucid[parquet]\". "
            "Or save it as CSV."
        ) from error
    textless = (types.is_nested, types.is_binary, types.is_large_binary)
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        wanted = [f.name for f in file.schema_arrow if not any(is_so(f.type) for is_so in textless)]
        columns = file.read(columns=wanted).to_pydict()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"The table '{shown(name)}' is no Parquet: {error}. Write it again.") from error
    return {c: ["" if v is None or v != v else str(v) for v in values] for c, values in columns.items()}


def _rows(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
    return f"row {listed} (row 1 is the first below the header)"
