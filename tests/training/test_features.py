"""Features: those of timm, mirrored ones too; each picture is looked at once, whatever happens around it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.model.fold import folded
from pellucid.training.features import AS_IT_IS, MIRRORED, look

CONTRACT = PixelContract(height=32, width=32, channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
COUNT = 60


@pytest.fixture(scope="module")
def network() -> Any:
    """timm's smallest, with batch norms that have seen something."""
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=3)
    module.train()
    for _ in range(3):
        module(torch.randn(16, 3, 32, 32) * 2 + 1)
    return module.eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def seen(module: nn.Module, pixels: np.ndarray, **settings: Any) -> tuple[np.ndarray, np.ndarray, list[Any]] | None:
    """Features, which were looked at, and the events; by default of all pictures as they are."""
    events: list[dict[str, Any]] = []
    rows = settings.pop("rows", np.arange(len(pixels)))
    arguments: dict[str, Any] = {
        "contents": [f"picture {i}" for i in range(len(pixels))], "views": np.full(len(rows), AS_IT_IS),
        "contract": CONTRACT, "weights": "some", "device": torch.device("cpu"), "precision": "fp32",
        "on_event": events.append, "should_stop": lambda: False, "fewest": 0, "deadline": None,
    }  # fmt: skip
    found = look(module, Pictures(pixels, np.zeros(len(pixels), np.int64), rows), **(arguments | settings))
    return None if found is None else (*found, events)


@torch.inference_mode()
def timm_features(module: Any, pixels: np.ndarray) -> np.ndarray:
    return module.forward_head(module.forward_features(CONTRACT.tensor(pixels)), pre_logits=True).numpy()


class Forbidden(nn.Module):
    """Stands in front of a network that must not be run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError(f"{len(x)} pictures were looked at")


def test_features_are_those_of_timm_in_both_views(network: Any, pixels: np.ndarray) -> None:
    rows, views = np.array([5, 3, 5, 59]), np.array([AS_IT_IS, MIRRORED, MIRRORED, AS_IT_IS])
    found = seen(network, pixels, rows=rows, views=views)
    assert found is not None
    shown = np.stack([pixels[5], pixels[3][:, ::-1], pixels[5][:, ::-1], pixels[59]])
    np.testing.assert_allclose(found[0], timm_features(network, shown), rtol=2e-3, atol=1e-4)  # halves: 11 bits
    assert found[1].all()


def test_bf16_is_near(network: Any, pixels: np.ndarray) -> None:
    found = seen(network, pixels, precision="bf16")
    assert found is not None
    expected = timm_features(network, pixels)
    assert np.linalg.norm(found[0] - expected) < 0.03 * np.linalg.norm(expected)


def test_only_new_pictures_are_looked_at(network: Any, pixels: np.ndarray) -> None:
    """A file that was added, moved, renamed or dealt into another split is known by its content."""
    names = [f"picture {i}" for i in range(COUNT)]
    first = seen(network, pixels[:50], contents=names[:50])
    assert first is not None
    order = np.random.default_rng(1).permutation(50)
    again = seen(Forbidden(network), pixels[order], contents=[names[i] for i in order])
    assert again is not None
    np.testing.assert_array_equal(again[0], first[0][order])
    with pytest.raises(AssertionError, match="8 pictures"):
        seen(Forbidden(network), pixels, contents=names)
    more = seen(network, pixels, contents=names)
    assert more is not None
    assert [event["done"] for event in more[2]] == [58, 60]  # the first batch is told at once
    np.testing.assert_array_equal(more[0][:50], first[0])
    np.testing.assert_allclose(more[0], timm_features(network, pixels), rtol=2e-3, atol=1e-4)


def test_a_picture_that_is_there_twice_is_known_twice(network: Any, pixels: np.ndarray) -> None:
    first = seen(network, pixels[:20])
    again = seen(Forbidden(network), pixels[[3, 4, 3]], contents=["picture 3", "picture 4", "picture 3"])
    assert first is not None and again is not None
    np.testing.assert_array_equal(again[0], first[0][[3, 4, 3]])


def test_a_picture_that_is_there_twice_is_looked_at_once(network: Any, pixels: np.ndarray) -> None:
    twice = np.concatenate([pixels[:8], pixels[:8]])
    found = seen(network, twice, contents=[f"picture {i % 8}" for i in range(16)])
    assert found is not None
    assert [event["done"] for event in found[2]] == [8]
    np.testing.assert_array_equal(found[0][8:], found[0][:8])
    assert found[1].all()


def test_after_a_stop_the_rest_is_looked_at_in_the_same_batches(
    network: Any, pixels: np.ndarray, own_cache: Path
) -> None:
    """Sums of a batch of another size may end in other bits, and a resumed training must not."""
    names = ["picture 1" if i == 30 else f"picture {i}" for i in range(COUNT)]
    whole = seen(network, pixels, contents=names)
    (file,) = (own_cache / "features").glob("*.sqlite")
    file.unlink()
    asked = iter([False, False, True])
    assert seen(network, pixels, contents=names, should_stop=lambda: next(asked)) is None
    batches: list[int] = []
    rest = seen(network, pixels, contents=names, on_event=lambda event: batches.append(event["done"]))
    assert whole is not None and rest is not None
    np.testing.assert_array_equal(rest[0], whole[0])
    assert batches == [33, 60]  # the one that is there twice is known


@pytest.mark.parametrize("other", [
    {"weights": "others"}, {"precision": "bf16"}, {"contract": PixelContract(32, 32)}, {"views": np.full(COUNT, MIRRORED)},
])  # fmt: skip
def test_what_was_seen_otherwise_is_not_used(network: Any, pixels: np.ndarray, other: dict[str, Any]) -> None:
    seen(network, pixels)
    with pytest.raises(AssertionError, match="8 pictures were looked at"):
        seen(Forbidden(network), pixels, **other)


def test_when_the_time_is_up_the_first_ones_are_done_and_kept(network: Any, pixels: np.ndarray) -> None:
    found = seen(network, pixels, deadline=time.monotonic() - 1, fewest=20)
    assert found is not None
    assert found[1].tolist() == [True] * 24 + [False] * 36  # 20, in batches of eight
    again = seen(Forbidden(network), pixels[:24])
    assert again is not None
    np.testing.assert_array_equal(again[0], found[0][:24])
    later = seen(network, pixels, deadline=time.monotonic() - 1, fewest=20)
    assert later is not None
    assert later[1].sum() == 32  # those that are known, and a batch more


def test_what_was_seen_before_a_stop_is_kept(network: Any, pixels: np.ndarray) -> None:
    asked = iter([False, False, True])
    assert seen(network, pixels, should_stop=lambda: next(asked)) is None
    assert seen(Forbidden(network), pixels[:24]) is not None


@pytest.mark.parametrize("damage", ["first page", "later page", "no file"])
def test_a_damaged_file_is_made_again(network: Any, pixels: np.ndarray, own_cache: Path, damage: str) -> None:
    first = seen(network, pixels)
    (file,) = (own_cache / "features").glob("*.sqlite")
    content = bytearray(file.read_bytes())
    if damage == "no file":
        content = bytearray(b"")
    elif damage == "first page":
        content[:100] = bytes(range(100))
    else:
        content[16384:] = bytes(len(content) - 16384)
    file.write_bytes(content)
    again, third = seen(network, pixels), seen(Forbidden(network), pixels)
    assert first is not None and again is not None and third is not None
    np.testing.assert_array_equal(again[0], first[0])
    np.testing.assert_array_equal(third[0], first[0])


def test_features_of_another_width_are_not_used(network: Any, pixels: np.ndarray, own_cache: Path) -> None:
    seen(network, pixels[:8])
    (file,) = (own_cache / "features").glob("*.sqlite")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE features SET halves = zeroblob(10)")
    database.close()
    with pytest.raises(AssertionError, match="8 pictures"):
        seen(Forbidden(network), pixels[:8])


def test_without_a_place_to_keep_them_features_are_still_computed(
    network: Any, pixels: np.ndarray, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_cache / "features").write_text("a file where the folder should be")
    found = seen(network, pixels)
    assert found is not None
    np.testing.assert_allclose(found[0], timm_features(network, pixels), rtol=2e-3, atol=1e-4)


def test_a_full_disk_loses_nothing_that_was_seen(network: Any, pixels: np.ndarray, own_cache: Path) -> None:
    seen(network, pixels[:8])
    (file,) = (own_cache / "features").glob("*.sqlite")
    script = f"""
import resource, sqlite3, sys
sys.path[:0] = {sys.path!r}
resource.setrlimit(resource.RLIMIT_FSIZE, ({file.stat().st_size},) * 2)  # no file can grow any more
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import numpy as np
from pellucid.data.feature_store import FeatureStore
from pellucid.data.contract import PixelContract
store = FeatureStore(["some", {CONTRACT!r}.to_dict(), "fp32"])
store.add([f"new {{i}}" for i in range(500)], np.zeros(500, int), np.zeros((500, 512), np.float16))
into = np.zeros((8, {network.num_features}), np.float16)
print(store.find([f"picture {{i}}" for i in range(8)], np.zeros(8, int), into).sum(), (into != 0).any())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "True"]


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_035", "test_vit"])
def test_folding_changes_no_answer(name: str) -> None:
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=4, **({"img_size": 64} if name == "test_vit" else {}))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    x, before = torch.randn(2, 3, 64, 64), {n: t.clone() for n, t in module.state_dict().items()}
    short = folded(module)
    with torch.inference_mode():
        torch.testing.assert_close(short(x), module.eval()(x), rtol=1e-3, atol=1e-4)
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in m.modules()) for m in (module, short)]
    assert norms[1] < norms[0] or not norms[0]
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())


def test_where_folding_would_be_wrong_it_is_not_done(pixels: np.ndarray) -> None:
    class Crossed(nn.Module):
        """A norm that stands behind a convolution but works on the input."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(self.norm(x)).relu().mean((2, 3)))

    torch.manual_seed(0)
    module = Crossed().eval()
    nn.init.uniform_(module.norm.running_mean, 1, 2)
    found = seen(module, pixels)
    assert found is not None
    with torch.inference_mode():
        x = module.conv(module.norm(CONTRACT.tensor(pixels))).relu().mean((2, 3))
    np.testing.assert_allclose(found[0], x.numpy(), rtol=2e-3, atol=1e-4)
