"""Figure: how well wrong labels are found that were planted among real pictures, and which score ranks them best.

Figure     AUROC of the ranking of all labels; share of the planted ones that is listed, and of the others
n          2,000 pictures of CIFAR-10 (200 a class), or the 1,797 digits; 5, 10 and 20 % of the labels moved to another class
Hardware   two cores of an AMD EPYC without a GPU: about a minute a row for digits, LIMIT a row for others
Command    .venv/bin/python recipes/planted_labels.py digits|FOLDER [LIMIT of each row, default 2m] [WEIGHTS]

FOLDER holds a folder of pictures for each class, like cifar10-jpeg/train or clothing/train; of each class at most 200 are
taken. WEIGHTS are pretrained ones, as for --weights.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from pellucid import Dataset, Evaluation, open_dataset, train
from pellucid.evaluation.draw import as_image
from pellucid.evaluation.folds import FoldsEvaluation
from pellucid.evaluation.suspects import label_scores
from pellucid.files import png_bytes

PER_CLASS, SHARES = 200, (0.05, 0.1, 0.2)


def plant(data: Dataset, folder: Path, share: float, *, seed: int = 0) -> dict[str, str]:
    """Writes a table of some pictures of `data` into `folder`, a share of them under another class; returns the true labels."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(rows)[:PER_CLASS] for _, rows in data.heaps()])
    wrong = np.isin(rows, rng.permutation(rows)[: round(share * len(rows))])
    truth = {}
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for i, moved in zip(rows.tolist(), wrong, strict=True):
            k = data.items[i].label
            name = f"{i}.png"
            (folder / name).write_bytes(data.read(i) or png_bytes(as_image(data.picture(i).pixels)))
            truth[name] = data.classes[k]
            other = (k + int(rng.integers(1, len(data.classes)))) % len(data.classes)
            writer.writerow([name, data.classes[other if moved else k]])
    return truth


def scores_of(labels: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
    """Ways to score a label, low where it is unlikely; the adjusted ones are relative to what its class usually gets."""
    rows = np.arange(len(labels))
    usual = np.array([p[labels == k, k].mean() for k in range(p.shape[1])])
    adjusted = p - usual + usual.max()
    adjusted /= adjusted.sum(1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(1)
    return {
        "normalized margin": label_scores(labels, p)[0],
        "self-confidence": p[rows, labels],
        "confidence by entropy": p[rows, labels] / np.maximum(entropy, 1e-6),
        "adjusted margin": label_scores(labels, adjusted)[0],
        "adjusted self-confidence": adjusted[rows, labels],
    }


def by_confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """bool (N,), for comparison: labels off the diagonal of the confident joint of Northcutt et al. 2021.

    A picture counts for the likeliest of the classes that it reaches the threshold of: the mean probability of the class on
    pictures with its label. Its label is doubted when that is another class.
    """
    num_classes = probabilities.shape[1]
    threshold = np.array([
        probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(num_classes)
    ])  # fmt: skip
    confident = np.where(probabilities >= threshold, probabilities, -1)
    doubted: np.ndarray = (confident.max(1) >= 0) & (confident.argmax(1) != labels)
    return doubted


def main() -> None:
    data = open_dataset(sys.argv[1])
    limit, weights = [*sys.argv[2:4], *[None] * 2][:2]
    limit = limit or (None if sys.argv[1] == "digits" else "2m")
    first = True
    for share in SHARES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            truth = plant(data, folder, share)
            run = train(
                folder / "table.csv", folds=5, time_limit=limit, weights=weights, out=folder / "run", near=False
            )
            found = run.evaluate()
            assert isinstance(found, FoldsEvaluation)
            assert isinstance(found.pooled, Evaluation)
            answers = found.answers
            position = {name: k for k, name in enumerate(answers.outputs)}
            labels = np.array([position[label] for label in answers.labels])
            wrong = np.array([truth[p] != label for p, label in zip(answers.paths, answers.labels, strict=True)])
            scores = scores_of(labels, answers.values)
            listed = scores["normalized margin"] < 0.5, by_confident_joint(labels, answers.values)
            if first:
                print(
                    "| planted | accuracy on the labels as given |",
                    " | ".join(scores),
                    "| listed: planted, others | by confident joint |",
                )
                print("|---|---|" + "---|" * (len(scores) + 2))
                first = False
            print(
                f"| {share:.0%} of {len(labels):,} | {found.pooled.accuracy.value:.3f} |",
                " | ".join(f"{roc_auc_score(wrong, -score):.4f}" for score in scores.values()),
                "|",
                " | ".join(f"{rows[wrong].mean():.3f}, {rows[~wrong].mean():.3f}" for rows in listed),
                "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
