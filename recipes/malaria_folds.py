"""Figure: what random folds promise of malaria cells, and what is left when no patient is in two parts.

Figure     accuracy over 5 folds by patient and over 5 random folds, each from one command, and their difference by patients
n          27,558 cells of 200 patients (50x50, grey), each answered out of fold
Hardware   two cores of an AMD EPYC without a GPU: about twice the limit
Command    .venv/bin/python recipes/malaria_folds.py MALARIA-FOLDER [TIME-LIMIT of each, default 5m] [OUT, default runs/malaria]

MALARIA-FOLDER is the unpacked malaria-gray50.zip, with its patients.csv. For color pictures of full size Rajaraman et al. 2018
(PeerJ 6:e4568) published 0.959 by patient and 0.986 at random.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pellucid import Evaluation, train
from pellucid.evaluation.folds import FoldsEvaluation
from pellucid.evaluation.intervals import Interval, group_numbers, resamples, spread
from pellucid.terminal import TrainingScreen


def folded(table: Path, limit: str, out: Path, group: str) -> FoldsEvaluation:
    """Like `pellucid train patients.csv --folds 5 --group patient`, or `--group ""`: the table's groups left out."""
    with TrainingScreen() as screen:
        run = train(table, folds=5, group=group, time_limit=limit, out=out, on_event=screen)
    found = run.evaluate()
    assert isinstance(found, FoldsEvaluation)
    return found


def advantage(random: FoldsEvaluation, grouped: FoldsEvaluation) -> Interval:
    """How much more is right with random folds, on the same cells; whole patients are resampled."""
    right = []
    for found in (random, grouped):
        answers = found.answers
        said = np.array(answers.outputs)[answers.values.argmax(1)]
        right.append(dict(zip(answers.paths, said == np.array(answers.labels), strict=True)))
    paths = grouped.answers.paths
    gained = np.array([float(right[0][path]) - right[1][path] for path in paths])
    groups = group_numbers(grouped.answers.groups)
    draws = np.concatenate([weights @ gained / weights.sum(1) for weights in resamples(len(gained), groups=groups)])
    return spread(float(gained.mean()), draws, units=int(groups.max()) + 1)


def main() -> None:
    folder, limit = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "5m"
    out = Path(sys.argv[3] if len(sys.argv) > 3 else "runs/malaria")
    found = {name: folded(folder / "patients.csv", limit, out / name, group)
             for name, group in (("patient", "patient"), ("random", ""))}  # fmt: skip
    print("| folds | accuracy, all cells out of fold | mean of the folds | standard deviation |")
    print("|---|---|---|---|")
    for name, folds in found.items():
        assert isinstance(folds.pooled, Evaluation)
        print(f"| {name} | {folds.pooled.accuracy} | {folds.mean:.4f} | {folds.std:.4f} |")
    gain = advantage(found["random"], found["patient"])
    more = f"{100 * gain.value:+.2f} points ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    if gain.low > 0:
        print(
            f"Random folds promise {more} more than is kept for new patients: cells of one patient resemble each other, and with "
            "random folds a network has seen others of the patient that it is tested on. The figure by patient is the one to report."
        )
    else:
        print(
            f"Random folds score {more} more, which is no certain difference: this network recognizes hardly anything of a "
            "patient. The figure by patient is still the one to report, since only it would show if it did."
        )


if __name__ == "__main__":
    main()
