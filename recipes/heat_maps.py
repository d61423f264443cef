"""Figure: whether Grad-CAM tells where a trained network looks, and whether it still does when its weights are shuffled.

Figure     deletion and ROAD of Grad-CAM, of a random map and of the edges, and by how much it is better, with intervals; then the same of
           maps made by the network with shuffled weights, measured on the trained one
n          all pictures of the test part (372 of clothing), or as many as are given, drawn at random with seed 0
Hardware   two cores of an AMD EPYC without a GPU: about 2.5 s a picture, for both
Command    .venv/bin/python recipes/heat_maps.py RUN [PICTURES, default all] [METHOD, default grad-cam]

RUN is, for example, that of: pellucid train clothing --weights mobilenetv2_100.safetensors --time-limit 60s
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import load
from pellucid.evaluation.looked import own_pictures
from pellucid.explain.heat import explain, prepare
from pellucid.explain.heat_set import mean_interval
from pellucid.model.engine import PROBE, with_engine
from pellucid.run import Run
from pellucid.terminal import progress


def main(path: str, count: int | None, method: str) -> None:
    trained = load(path)
    chosen, pack = own_pictures(Run(Path(path)), trained, "test")
    rows = np.random.default_rng(0).permutation(chosen.rows)[:count]
    pictures = pack.pixels[np.sort(rows)]
    explainer = prepare(trained, pictures[:8], methods=[method], draws=1)
    fast, _ = with_engine(trained, "auto", pixels=pictures[:PROBE], count=200 * len(pictures))
    # Maps come from `module`, answers from `forward`: so maps of the shuffled network are measured on the trained one.
    shuffled = replace(fast, module=explainer.twins[0].module, forward=fast.forward or trained.module)
    print(f"{method}, {explainer.layer}")
    for name, classifier in (("trained", fast), ("shuffled", shuffled)):
        maps: list[Any] = []
        with progress(name) as show:
            for index, pixels in enumerate(pictures):
                show(index, len(pictures))
                maps.extend(explain(replace(explainer, classifier=classifier), str(index), pixels).maps)
        print(f"\nmaps of the {name} network, n {len(maps)}")
        for score, sign in (("deletion", -1), ("insertion", 1), ("road", 1)):
            own = np.array([getattr(each.scores, score) for each in maps])
            random = np.array([getattr(each.random[0], score) for each in maps])
            edges = np.array([getattr(each.edges, score) for each in maps])
            print(f"  {score:<10} {mean_interval(own)}   random {mean_interval(random)}   edges {mean_interval(edges)}")
            print(
                f"  {'better by':<10} random {mean_interval(sign * (own - random))}   edges {mean_interval(sign * (own - edges))}"
            )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None, sys.argv[3] if len(sys.argv) > 3 else "grad-cam")
