"""A run's classifier as it was at an earlier point: before its training, or at one of the checkpoints that it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pellucid.errors import RunError, UnknownNameError, WeightsError, nearest
from pellucid.model.classifier import Classifier, load
from pellucid.run import Run
from pellucid.training.checkpoint import named_checkpoint
from pellucid.training.pipeline import work_of

INITIAL = "initial"


def points_of(run: Run) -> list[str]:
    """The names that `classifier_at` takes for this run: initial, and its checkpoints, the oldest first."""
    return [INITIAL, *sorted(file.stem for file in (run.path / "checkpoints").glob("*.json"))]


def classifier_at(run: Run | str | Path, point: str) -> Classifier:
    """The classifier with the weights of `point`; everything else is as in the finished one.

    `initial` is built again from the run's seed, settings and, for whitening, pictures, exactly as the training began: that
    holds for the same versions of torch and of the network's library. A checkpoint by its step holds the weights without
    their average. Raises UnknownNameError, RunError for a damaged checkpoint.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    if not (run.path / "run.json").exists():
        raise RunError(
            f"'{run}' is no run folder, so that it has no earlier state to be held against. Give a folder that pellucid train made."
        )
    finished, known = load(run.path), points_of(run)
    if point not in known:
        raise UnknownNameError(
            f"'{run}' keeps nothing called '{point}'; expected one of {', '.join(known)}. {nearest(point, known)}".rstrip()
        )
    if point == INITIAL:
        return replace(finished, module=work_of(run).new_module().eval())
    checkpoint = named_checkpoint(run.path / "checkpoints", point)
    if checkpoint is None:
        raise RunError(
            f"'{run.path / 'checkpoints' / point}.safetensors' is damaged. Take another of {', '.join(known)}."
        )
    prefix = "model." if point.startswith("step-") else ""
    module = finished.module
    try:
        module.load_state_dict(
            {name.removeprefix(prefix): t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        raise WeightsError(f"The checkpoint '{point}' of '{run}' is not of this network: {error}") from error
    return replace(finished, module=module.eval())
