"""Calibration, silence and label sets of trained runs, on twenty splits of pictures that they have never seen.

Figure     calibration error before and after; mistakes among the answers under --abstain 0.05; coverage of label sets for 90 %
n          the test part of each run, split twenty times: one half fits everything, the other is measured
Hardware   two cores of an AMD EPYC without a GPU: seconds for 10,000 pictures of 32x32
Command    .venv/bin/python recipes/calibration_and_silence.py RUN [RUN ...]

The validation part also chose the weights and the epoch, so halves of the test part stand in for it here. "above" counts the splits
whose mistakes exceed 5 % by more than chance (binomial, 95 %, one side) if 5 % was true; the promise allows them one split in twenty.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binom

from pellucid import Classifier, load
from pellucid.data.pack import open_pack
from pellucid.data.reopen import reopen
from pellucid.evaluation.confidence import score_probabilities
from pellucid.evaluation.label_sets import find_rule, measure_sets
from pellucid.evaluation.silence import find_threshold, measure_silence
from pellucid.model.calibration import fit_calibration
from pellucid.run import Run

SPLITS, ABSTAIN, SETS = 20, 0.05, 0.9


def main(paths: list[str]) -> None:
    for path in (Run(Path(name)) for name in paths):
        classifier, dataset = load(path.path), reopen(path.read())
        pack = open_pack(dataset, classifier.contract)
        place = {item.path: i for i, item in enumerate(dataset.items)}
        used = [row for row in path.read_manifest() if row["split"] == "test" and row["status"] == "used"]
        logits = classifier.predict_logits(pack.pixels[[place[row["path"]] for row in used]])
        labels = classifier.task.encode([row["label"] for row in used], classifier.classes)
        print(f"\n{path}: accuracy {np.mean(logits.argmax(1).numpy() == labels):.4f}, n {len(labels):,}")
        rows = np.array([split(classifier, logits, labels, seed) for seed in range(SPLITS)])
        names = (
            "ECE before",
            "ECE after",
            "accuracy",
            "same answers",
            "answered",
            "mistakes",
            "above",
            "LAC",
            "LAC size",
            "APS",
            "APS size",
        )
        for name, column in zip(names, rows.T, strict=True):
            print(f"  {name:<13} mean {np.nanmean(column):.4f}   {np.nanmin(column):.4f} to {np.nanmax(column):.4f}")


def split(classifier: Classifier, logits: torch.Tensor, labels: np.ndarray, seed: int) -> tuple[float, ...]:
    order = np.random.default_rng(seed).permutation(len(labels))
    fit, test = order[: len(order) // 2], order[len(order) // 2 :]
    fitted = replace(classifier, calibration=fit_calibration(classifier.task, logits[fit].numpy(), labels[fit]))
    before = replace(classifier, calibration=None).answers(logits[test])
    known, after = fitted.answers(logits[fit]), fitted.answers(logits[test])
    silence = measure_silence(find_threshold(known, labels[fit], ABSTAIN), after, labels[test])
    sets = [measure_sets(find_rule(known, labels[fit], SETS, method), after, labels[test]) for method in ("lac", "aps")]
    return (
        score_probabilities(before, labels[test]).ece, score_probabilities(after, labels[test]).ece,
        float((after.argmax(1) == labels[test]).mean()), float((after.argmax(1) == before.argmax(1)).mean()),
        silence.answered / silence.n, silence.error.value,
        float(silence.wrong > binom.ppf(0.95, silence.answered, ABSTAIN)) if silence.answered else 0.0,
        *(value for score in sets for value in (score.coverage.value, score.mean_size)),
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
