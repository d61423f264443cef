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

from pellucid import Evaluation, train
from pellucid.evaluation.compare import compare
from pellucid.evaluation.folds import FoldsEvaluation
from pellucid.terminal import TrainingScreen


def folded(table: Path, limit: str, out: Path, group: str) -> FoldsEvaluation:
    """Like `pellucid train patients.csv --folds 5 --group patient`, or `--group ""`: the table's groups left out."""
    with TrainingScreen() as screen:
        run = train(table, folds=5, group=group, time_limit=limit, out=out, on_event=screen)
    found = run.evaluate()
    assert isinstance(found, FoldsEvaluation)
    return found


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
    compared = compare([out / "patient", out / "random"])
    print(compared)
    gain = compared.rivals[1].gain
    assert gain is not None
    if gain.low <= 0:
        print("That is no certain difference: this network recognizes hardly anything of a patient.")


if __name__ == "__main__":
    main()
