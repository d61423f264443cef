"""Pictures explained and written down: one page, and a PNG for each heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import ConfigError, DataError, PictureError
from pellucid.evaluation.looked import own_pictures
from pellucid.evaluation.predict import file_stem, find_pictures
from pellucid.explain.heat import Explainer, Explanation, explain, prepare
from pellucid.explain.heat_draw import overlay, sheet
from pellucid.explain.heat_page import render_explanation, render_set
from pellucid.explain.heat_set import ExplainedSet, explain_many
from pellucid.files import atomic_write, png_bytes, storage_errors
from pellucid.model.classifier import Classifier
from pellucid.model.engine import PROBE, told, with_engine
from pellucid.run import Run

_LOOKS = 100  # answers, about, that the figures of one picture need


@dataclass(frozen=True, eq=False)
class Report:
    """What was found, of one picture or of many, and where it was written; files: that of each (picture, method)."""

    found: Explanation | ExplainedSet
    page: Path
    files: dict[tuple[str, str], Path]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, with the file of each map."""
        content = self.found.to_dict()
        for picture in content.get("pictures", [content]):
            for each in picture["maps"]:
                each["file"] = str(self.files[picture["path"], each["method"]])
        return content | {"page": str(self.page)}

    def __str__(self) -> str:
        return str(self.found)


def explain_pictures(
    classifier: Classifier,
    run: str | Path,
    paths: Sequence[str | Path] = (),
    *,
    split: str | None = None,
    methods: Sequence[str] = (),
    label: str | None = None,
    layer: str | None = None,
    limit: int = 100,
    out: Path | None = None,
    seed: int = 0,
    on_engine: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Explains the pictures of `paths`, or those of a `split` of the run, and writes a page and pictures.

    Raises ConfigError when both or none are given, DataError when nothing can be explained, and what `prepare` raises.
    """
    if bool(paths) == (split is not None):
        raise ConfigError(
            "Give pictures or folders to explain, or --split test for a part of the run's own; one of the two."
        )
    folder = out or (Path(run) / "reports" / "explain" if Path(run).is_dir() else Path("explain"))
    notes, groups = [], None
    if split is not None:
        chosen, pack = own_pictures(Run(Path(run)), classifier, split, progress=progress)
        names = [chosen.dataset.items[i].path for i in chosen.rows]
        rows = _some(len(names), limit, seed)
        names = [names[i] for i in rows]
        pictures: list[np.ndarray | str] = [pack.pixels[chosen.rows[i]] for i in rows]
        groups = [chosen.groups[i] for i in rows] if chosen.groups else None
        notes, total, source = list(chosen.notes), len(chosen.rows), f"{Path(run).name}, {split} part"
    else:
        files = find_pictures(paths)
        names = [str(files[i]) for i in _some(len(files), limit, seed)]
        pictures = [_pixels(classifier, name) for name in names]
        total, source = len(files), ", ".join(map(str, paths))
    if total > len(names):
        notes.append(f"{len(names):,} of {total:,} pictures, drawn at random (--limit, --seed)")
    readable = [picture for picture in pictures if not isinstance(picture, str)]
    if not readable:
        raise DataError(f"'{names[0]}' cannot be explained: {pictures[0]}. Give other pictures.")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    made = {"Classifier": f"{run}: {classifier}", "Pixels": str(classifier.contract), "Seed": str(seed)}
    if len(names) == 1:
        explainer = prepare(classifier, readable[0][None], methods=methods, layer=layer, seed=seed)
        return _one(explainer, names[0], readable[0], label, folder, made)
    explainer = prepare(classifier, np.stack(readable[:8]), methods=methods, layer=layer, draws=1, seed=seed)
    looks = _LOOKS * len(readable) * len(explainer.methods)
    faster, trials = with_engine(classifier, "auto", pixels=np.stack(readable[:PROBE]), count=looks)
    if on_engine and trials:
        on_engine(told(trials))
    found = explain_many(
        replace(explainer, classifier=faster), list(zip(names, pictures, strict=True)), source=source, label=label, groups=groups,
        notes=notes, progress=progress,
    )  # fmt: skip
    return _many(found, folder, made)


def _one(
    explainer: Explainer, name: str, pixels: np.ndarray, label: str | None, folder: Path, made: dict[str, str]
) -> Report:
    try:
        found = explain(explainer, name, pixels, label)
    except PictureError as error:
        raise DataError(f"'{name}' cannot be explained: {error.reason}. Give another picture.") from error
    if not found.maps:
        reasons = "; ".join(f"{method}: {why}" for method, why in found.refused)
        raise DataError(f"There is no heat map to show of '{name}'. {reasons}. Other methods: --method all.")
    stem = file_stem(name, set())
    files = {(name, heat.method): folder / f"{stem}-{heat.method}.png" for heat in found.maps}
    for heat in found.maps:
        atomic_write(files[name, heat.method], sheet(found, heat))
    page = folder / f"{stem}.html"
    atomic_write(page, render_explanation(found, made).encode())
    return Report(found, page, files)


def _many(found: ExplainedSet, folder: Path, made: dict[str, str]) -> Report:
    taken: set[str] = set()
    files = {}
    for explanation in found.explanations:
        stem = file_stem(explanation.name, taken)
        for heat in explanation.maps:
            file = files[explanation.name, heat.method] = folder / f"{stem}-{heat.method}.png"
            atomic_write(file, png_bytes(overlay(explanation.pixels, heat.values)))
    page = folder / "pictures.html"
    atomic_write(page, render_set(found, made).encode())
    return Report(found, page, files)


def _some(count: int, limit: int, seed: int) -> list[int]:
    """At most `limit` of `count` positions, drawn at random, in order."""
    if count <= limit:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, limit, replace=False).tolist())


def _pixels(classifier: Classifier, name: str) -> np.ndarray | str:
    """What the network is given of a file, or why there is nothing."""
    try:
        return classifier.pixels(name)
    except PictureError as error:
        return error.reason
