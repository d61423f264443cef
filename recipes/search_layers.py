"""Which layer finds pictures of the same class: search scores of a pretrained network on photographs of clothes.

Figure     rank-weighted search score of each layer, of plain pixels and of chance, cosine and Euclidean
n          3,781 photographs of ten classes, each a query among all others; copies of the query are passed over
Hardware   two cores of an AMD EPYC (AVX-512) without a GPU: about three minutes, one when asked again
Command    .venv/bin/python recipes/search_layers.py [PICTURES WEIGHTS]

PICTURES is a folder or zip, by default clothing.zip in the data folder of PELLUCID_SHARED (../shared); WEIGHTS a safetensors file
that names its network, by default MobileNet v2 of ImageNet in its folder of weights. With --speed CIFAR10, a folder or zip of
60,000 pictures of 32x32, it also measures the first index of them by a small network and a query afterwards.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from pellucid import open_dataset
from pellucid.data.contract import PixelContract
from pellucid.device import seed_everything
from pellucid.explain.index import build_index
from pellucid.explain.neighbors import DISTANCES, Neighbors
from pellucid.explain.search_compare import compare_layers, open_networks, tell
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture

SHARED = Path(os.environ.get("PELLUCID_SHARED", Path(__file__).resolve().parents[2] / "shared"))
QUERIES = 50


def scores(pictures: Path, weights: Path) -> None:
    """A table of the layers of the network in `weights`, by both distances."""
    data, networks = open_dataset(pictures), open_networks(str(weights))
    found = {distance: compare_layers(networks, data, distance=distance) for distance in DISTANCES}
    first = found[DISTANCES[0]]
    print(
        f"{first.networks[0].network}; {first.n:,} pictures, {first.queries:,} queries, chance {first.base_rate:.1f}\n"
    )
    print(f"| layer | numbers | {' | '.join(DISTANCES)} |\n|---|---|{'---|' * len(DISTANCES)}")
    for rows in zip(*(found[distance].networks[0].layers for distance in DISTANCES), strict=True):
        print(f"| {rows[0].layer} | {rows[0].width:,} | {' | '.join(tell(row.score) for row in rows)} |")
    for distance in DISTANCES:
        for note in found[distance].notes:
            print(f"\n{distance}: {note}")


def speed(pictures: Path) -> None:
    """Seconds of the first index by fastnet, of the second, which finds all known, and of a query; weights do not matter to them."""
    seed_everything(0)
    architecture = find_architecture("fastnet")
    module = build(architecture, input_shape=(3, 32, 32), num_classes=10).eval()
    classifier = Classifier(module, tuple("0123456789"), PixelContract(32, 32), architecture)
    data = open_dataset(pictures)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PELLUCID_CACHE"] = cache
        for what in ("first index, decoding included", "second index, all known"):
            begun = time.perf_counter()
            index = build_index(classifier, data, ["pool"])
            print(f"{what}: {time.perf_counter() - begun:.1f} s for {len(index):,} pictures")
    near = Neighbors(index.vectors["pool"])
    queries = np.random.default_rng(0).permutation(len(index))[: QUERIES + 1]
    seconds = []
    for query in queries:
        begun = time.perf_counter()
        near.of(index.vectors["pool"][[query]], 15, apart=(np.array([query]), np.arange(len(index))))
        seconds.append(time.perf_counter() - begun)
    some = 1000 * np.array(seconds[1:])  # the first one warms up
    print(f"query: median {np.median(some):.1f} ms, slowest {some.max():.1f} ms of {QUERIES}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="?", type=Path, default=SHARED / "data" / "clothing.zip")
    parser.add_argument("weights", nargs="?", type=Path, default=SHARED / "weights" / "mobilenetv2_100.safetensors")
    parser.add_argument("--speed", type=Path, metavar="CIFAR10", help="also measure the index of these pictures")
    arguments = parser.parse_args()
    scores(arguments.pictures, arguments.weights)
    if arguments.speed:
        print()
        speed(arguments.speed)


if __name__ == "__main__":
    main()
