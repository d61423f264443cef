"""The command line on real digits written as files: the main job end to end, and bad input told in a paragraph."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pellucid.files import write_json
from pellucid.run import Run

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Digits 0 to 2 as PNG files in class folders, 60 each, with names that make trouble."""
    names = {0: "zero", 1: "éins", 2: "-two"}
    for label, name in names.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:60]):
            file = folder / ("new\nline.png" if i == 0 else "-dash.png" if i == 1 else f"ünï {i}.png")
            Image.fromarray(digits[0][k]).save(file)
    return tmp_path / "photos"


QUICK = ("--epochs", 8, "--precision", "fp32", "--batch-size", 16)


def test_the_main_job(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (photos / "zero" / "empty.png").touch()
    (photos / "zero" / "text.jpg").write_text("no picture")
    code, out, err = cli("check", photos, "--json", "--sheet", tmp_path / "sheet.png")
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 180
    assert found["classes"] == {"-two": 60, "zero": 60, "éins": 60}
    assert {row["path"] for row in found["unreadable"]} == {"zero/empty.png", "zero/text.jpg"}
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 400

    code, out, err = cli("train", photos, *QUICK, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    assert "'zero/empty.png': file is empty (0 bytes)" in err
    trained = json.loads(out)
    assert trained["state"] == "finished"
    assert trained["valid"]["n"] == 18
    rows = Run(tmp_path / "run").read_manifest()
    assert len(rows) == 182
    assert sum(row["status"] == "unreadable" for row in rows) == 2

    code, out, err = cli("evaluate", tmp_path / "run", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["n"] == 18
    assert result["accuracy"]["value"] > 0.8
    assert result["accuracy"]["low"] < result["accuracy"]["value"]
    report = (tmp_path / "run" / "reports" / "test.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "<script" not in report

    code, out, err = cli(
        "predict",
        tmp_path / "run",
        photos,
        "--top",
        2,
        "--csv",
        tmp_path / "a.csv",
        "--draw",
        tmp_path / "drawn",
        "--json",
    )
    assert code == 0, err
    answers = json.loads(out)
    assert len(answers) == 182
    broken = [a for a in answers if a["error"]]
    assert [Path(a["path"]).name for a in broken] == ["empty.png", "text.jpg"]
    right = [Path(a["path"]).parent.name == a["labels"][0]["label"] for a in answers if not a["error"]]
    assert np.mean(right) > 0.8
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [row["path"] for row in table] == [a["path"] for a in answers]
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 180


def test_check_shows_and_mends(cli: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "zero" / "empty.png").write_bytes(b"")
    table, html = tmp_path / "good.csv", tmp_path / "page.html"
    code, out, err = cli("check", photos, "--fix", table, "--html", html, "--json")
    assert code == 0, err
    content = json.loads(out)
    assert content["fix"]["file"] == str(table)
    assert content["fix"]["left_out"] == {"unreadable": 1}
    assert "file is empty (0 bytes)" in html.read_text()
    code, out, err = cli("check", table, "--no-near")
    assert code == 0, err
    assert "Nothing to mend was found." in out
    code, out, err = cli("check", photos, "--fix", table)
    assert code == 1
    assert "ConfigError" in err and "is not overwritten" in err


def test_the_same_command_twice_gives_the_same_bits(cli: Cli, photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cli("train", photos, *QUICK, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a/model/model.safetensors").read_bytes() == (
        tmp_path / "b/model/model.safetensors"
    ).read_bytes()
    assert (tmp_path / "a/data.csv").read_bytes() == (tmp_path / "b/data.csv").read_bytes()


def test_text_output_shows_no_control_characters(cli: Cli, photos: Path) -> None:
    (photos / "zero" / "\x1b[31mred.png").touch()
    code, out, _ = cli("check", photos)
    assert code == 0
    assert "\x1b" not in out
    assert r"\x1b[31mred.png" in out


def test_groups_stay_together(cli: Cli, photos: Path, tmp_path: Path) -> None:
    code, _, err = cli("train", photos, *QUICK, "--group", r"(\d)\.png$", "--out", tmp_path / "run")
    assert code == 1
    assert "2 of" in err or "do not match" in err or "match" in err  # the two files without a number are named
    for folder in photos.iterdir():
        (folder / "new\nline.png").unlink()
        (folder / "-dash.png").unlink()
    code, _, err = cli("train", photos, *QUICK, "--group", r"(\d)\.png$", "--out", tmp_path / "run")
    assert code == 0, err
    where: dict[str, set[str]] = {}
    for row in Run(tmp_path / "run").read_manifest():
        where.setdefault(row["group"], set()).add(row["split"])
    assert len(where) == 10
    assert all(len(splits) == 1 for splits in where.values())


def test_duplicates_do_not_leak(cli: Cli, photos: Path, tmp_path: Path) -> None:
    """Given splits: the copy in train goes, the test picture stays."""
    for part in ("train", "test"):
        (photos / part).mkdir()
    for folder in sorted(p for p in photos.iterdir() if p.name not in ("train", "test")):
        files = sorted(folder.iterdir())
        for part, some in (("train", files[:50]), ("test", files[45:])):
            (photos / part / folder.name).mkdir()
            for file in some:
                (photos / part / folder.name / file.name).write_bytes(file.read_bytes())
        for file in files:
            file.unlink()
        folder.rmdir()
    found = json.loads(cli("check", photos, "--json")[1])
    assert len(found["leaks"]) == 15
    code, _, err = cli("train", photos, *QUICK, "--out", tmp_path / "run")
    assert code == 0, err
    assert "15 pictures left out because the same pixels are in a later split" in err
    leaked = [row for row in Run(tmp_path / "run").read_manifest() if row["status"] == "leaked"]
    assert len(leaked) == 15
    assert all(row["split"] == "train" and "same pixels as test/" in row["reason"] for row in leaked)


def test_resume_after_kill(cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that dies in the middle ends, resumed, with the bits of one that did not; also a run of before policies."""
    from pellucid.training import loop, objective

    settings = (*QUICK, "--augment", "flip shift1")
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    assert cli("train", photos, *settings, "--out", tmp_path / "whole")[0] == 0
    real, calls = objective.F.cross_entropy, iter(range(10**9))

    def dying(*arguments: Any, **more: Any) -> Any:
        if next(calls) == 40:
            raise MemoryError
        return real(*arguments, **more)

    monkeypatch.setattr(objective.F, "cross_entropy", dying)
    with pytest.raises(MemoryError):
        cli("train", photos, *settings, "--out", tmp_path / "killed")
    monkeypatch.setattr(objective.F, "cross_entropy", real)
    assert Run(tmp_path / "killed").read()["state"] == "running"
    shutil.copytree(tmp_path / "killed", tmp_path / "older")
    as_before_policies(Run(tmp_path / "older"))
    model = "model/model.safetensors"
    for name in ("killed", "older"):
        code, _, err = cli("train", "--resume", tmp_path / name)
        assert code == 0, err
        assert "going on from step" in err
        assert (tmp_path / name / model).read_bytes() == (tmp_path / "whole" / model).read_bytes()
    code, _, err = cli("train", "--resume", tmp_path / "killed")
    assert code == 1
    assert "is finished" in err


def as_before_policies(run: Run) -> None:
    """The run as it was written when there were three settings in place of a policy."""
    content = run.read()
    before = {"flip": "horizontal", "shift": 1, "color": 0.0}
    training = {name: value for name, value in content["config"]["train"].items() if name != "augment"}
    run.update(
        config=content["config"] | {"train": training | before}, recipe=content["recipe"] | {"augmentation": before}
    )


def test_resume_refuses_other_pictures(cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.training import pipeline

    real = pipeline.fit_and_save
    monkeypatch.setattr(pipeline, "fit_and_save", lambda work, recipe: work.run.update(state="running"))
    with pytest.raises(KeyError):  # the summary needs what the fit would have written
        cli("train", photos, *QUICK, "--out", tmp_path / "run")
    monkeypatch.setattr(pipeline, "fit_and_save", real)
    (photos / "zero" / "ünï 7.png").unlink()
    code, _, err = cli("train", "--resume", tmp_path / "run")
    assert code == 1
    assert "1 of 180 are missing, new or changed, for example 'zero/ünï 7.png'" in err


def bomb() -> bytes:
    """A PNG of 50,000 x 50,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_are_named(cli: Cli, photos: Path) -> None:
    good = (photos / "zero" / "ünï 5.png").read_bytes()
    (photos / "zero" / "cut.png").write_bytes(good[:-30])
    (photos / "zero" / "bomb.png").write_bytes(bomb())
    (photos / "zero" / "loop.png").symlink_to(photos / "zero" / "loop.png")
    (photos / "zero" / "round").symlink_to(photos)
    code, out, err = cli("check", photos, "--json")
    assert code == 0, err
    reasons = {row["path"]: row["reason"] for row in json.loads(out)["unreadable"]}
    assert set(reasons) == {"zero/cut.png", "zero/bomb.png", "zero/loop.png"}
    assert "2,500,000,000 pixels" in reasons["zero/bomb.png"]


def test_check_shows_what_an_augmentation_does(cli: Cli, photos: Path, tmp_path: Path) -> None:
    code, out, err = cli("check", photos, "--augment", "vflip blur0.5", "--sheet", tmp_path / "sheet.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["augmentation"]["policy"] == "vflip blur0.5"
    assert [test["transform"] for test in found["augmentation"]["tests"]] == ["vflip", "blur0.5"]
    with Image.open(found["sheet"]) as sheet:
        assert sheet.height > 6 * 96  # two pictures of three classes
    code, out, err = cli("check", photos, "--augment", "vflip")
    assert code == 0, err
    assert "vflip" in out


@pytest.mark.parametrize(
    ("make", "arguments", "told"),
    [
        (lambda d: None, ["train", "{d}/nothing"], ["nothing", "does not exist"]),
        (lambda d: (d / "empty").mkdir(), ["train", "{d}/empty"], ["empty"]),
        (lambda d: None, ["train", "{d}/photos", "--model", "resnet_18"], ["UnknownNameError", "resnet18"]),
        (lambda d: None, ["train", "{d}/photos", "--model", "conv8 pool pool pool conv8"], ["ShapeError", "--size"]),
        (
            lambda d: None,
            ["train", "{d}/photos", "--model", "conv8 step dense9"],
            ["SpecError", "conv1 could never learn"],
        ),
        (
            lambda d: None,
            ["train", "{d}/photos", "--model", "conv8 residual[conv9]"],
            ["ShapeError", "residual,project"],
        ),
        (lambda d: None, ["train", "{d}/photos", "--model", "init:h conv8"], ["SpecError", "init:h", "xavier"]),
        (lambda d: None, ["models", "resnet_50"], ["UnknownNameError", "resnet50"]),
        (lambda d: None, ["train", "{d}/photos", "--weights", "{d}/none.safetensors"], ["WeightsError"]),
        (lambda d: None, ["train", "{d}/photos", "--split", "90/10"], ["ConfigError", "80/10/10"]),
        (lambda d: None, ["train", "{d}/photos", "--time-limit", "soon"], ["ConfigError", "10m"]),
        (
            lambda d: None,
            ["train", "{d}/photos", "--augment", "flip rotat15"],
            ["UnknownNameError", "Did you mean rotate"],
        ),
        (lambda d: None, ["train", "{d}/photos", "--augment", "cutout8"], ["ConfigError", "leaves no picture", "8x8"]),
        (lambda d: None, ["check", "{d}/photos", "--augment", "zoom0"], ["ConfigError", "number of zoom is 0"]),
        (lambda d: None, ["train", "--resume", "{d}/photos"], ["RunError", "no run folder"]),
        (lambda d: None, ["evaluate", "{d}/photos"], ["RunError", "no run folder"]),
        (lambda d: None, ["predict", "{d}/photos", "x.png"], ["RunError"]),
        (lambda d: write_json(d / "run.json", {"format": 99}), ["evaluate", "{d}"], ["newer Pellucid", "Upgrade"]),
        (lambda d: one_class(d / "photos"), ["train", "{d}/photos"], ["at least two classes"]),
        (lambda d: one_each(d / "photos"), ["train", "{d}/photos"], ["SplitError"]),
        (lambda d: missing_table(d), ["train", "{d}/t.csv"], ["DataError", "--root"]),
        (lambda d: None, ["train", "{d}/photos", "--out", "/proc/nowhere"], ["StorageError", "--out"]),
    ],
)
def test_bad_input_is_one_paragraph(
    cli: Cli, photos: Path, tmp_path: Path, make: Callable[[Path], Any], arguments: list[str], told: list[str]
) -> None:
    make(tmp_path)
    os.chdir(tmp_path)
    code, out, err = cli(*(a.format(d=tmp_path) for a in arguments))
    assert code == 1, err
    assert "Traceback" not in err
    assert out == ""
    for word in told:
        assert word in err
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir()), "a run folder was left behind"


def one_class(photos: Path) -> None:
    for name in ("éins", "-two"):
        for file in (photos / name).iterdir():
            file.unlink()
        (photos / name).rmdir()


def one_each(photos: Path) -> None:
    for folder in photos.iterdir():
        for file in sorted(folder.iterdir())[1:]:
            file.unlink()


def missing_table(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\n" + "".join(f"no/{i}.png,{i % 2}\n" for i in range(9)))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "train"),
        (["train", "x", "--optimzer", "sgd"], "--optimizer"),
        (["train", "x", "--optimizer", "adm"], "sgd"),
        (["train"], "--resume"),
        (["predict", "x"], "PATH"),
    ],
)
def test_usage_errors_exit_with_2(cli: Cli, arguments: list[str], told: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert told in err


def test_a_pretrained_network_predicts_by_name(cli: Cli, photos: Path, own_cache: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    (own_cache / "weights").mkdir()
    save_file(timm.create_model("test_resnet").state_dict(), own_cache / "weights" / "test_resnet.safetensors")
    picture, labels = next(photos.rglob("*.png")), tmp_path / "labels.json"
    labels.write_text(json.dumps([f"class {i}" for i in range(1000)]))
    code, out, err = cli(
        "predict", "test_resnet", "--weights", "imagenet", picture, "--top", 2, "--labels", labels,
        "--draw", tmp_path / "drawn", "--json",
    )  # fmt: skip
    assert code == 0, err
    (answer,) = json.loads(out)
    assert len(answer["labels"]) == 2
    assert answer["labels"][0]["label"].startswith("class ")
    assert "timm test_resnet.r160_in1k, licence apache-2.0" in err
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 1
    code, out, err = cli("predict", "test_resnet", picture)
    assert (code, out) == (1, "")
    assert "Add --weights imagenet" in err


def test_summary_of_a_text_and_of_a_name(cli: Cli) -> None:
    text = "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu"
    table = json.loads(cli("summary", text, "--input", "3x32x32", "--json")[1])
    assert table["parameters"] == 40682
    assert table["layers"][0]["output"] == [16, 30, 30]
    assert json.loads(cli("summary", "resnet18", "--classes", 1000, "--json")[1])["parameters"] == 11689512


def test_what_a_fully_connected_network_would_cost(cli: Cli) -> None:
    code, out, err = cli("summary", "lenet", "--versus-dense", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert content["input"] == [1, 32, 32]
    assert [row["name"] for row in content["versus_dense"]] == ["conv1", "conv2", "conv3"]
    assert content["versus_dense"][0]["dense_parameters"] == (32 * 32 + 1) * 6 * 28 * 28
    assert "fully connected" in cli("summary", "lenet", "--versus-dense")[1]
    assert "versus_dense" not in json.loads(cli("summary", "lenet", "--json")[1])


def test_the_list_of_networks(cli: Cli) -> None:
    assert cli("models")[1].splitlines()[1].startswith("lenet ")
    code, out, err = cli("models", "vgg1[69]", "--parameters", "--json")
    assert code == 0, err
    counted = {row["name"]: row["parameters"] for row in json.loads(out)["networks"]}
    assert counted == {"vgg16": 138_357_544, "vgg19": 143_667_240}


def test_a_run_keeps_how_its_first_weights_were_drawn(cli: Cli, photos: Path, tmp_path: Path) -> None:
    text = "init:zeros conv4 relu residual[conv4,psame relu] pool"
    code, _, err = cli("train", photos, *QUICK, "--model", text, "--out", tmp_path / "run")
    assert code == 0, err
    card = json.loads((tmp_path / "run" / "model" / "card.json").read_text())
    assert card["architecture"]["name"] == "init:zeros conv4 relu residual[conv4,p1 relu] pool"
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert {name for name, values in weights.items() if values.any()} == {"head.bias"}  # nothing else could move


def test_a_run_is_used_from_any_folder(cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("train", "photos", *QUICK, "--out", "run")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, err = cli("evaluate", "../run")
    assert code == 0, err


def test_an_impossible_network_is_refused_before_pictures_are_read(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pellucid.training import pipeline

    monkeypatch.setattr(pipeline, "open_pack", None)
    for model in ("resnet_18", "conv8 pool pool pool conv8", "alexnet", "fastnet-0"):
        assert cli("train", photos, "--model", model, "--out", tmp_path / "run")[0] == 1


def test_pictures_of_five_channels_go_through_every_command(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(2):
        (tmp_path / "five" / str(label)).mkdir(parents=True)
        for k in range(30):
            pixels = rng.integers(0, 200, (12, 12, 5), dtype=np.uint8)
            pixels[..., 4] = pixels[..., 4] // 4 + 150 * label  # the fifth channel alone tells the classes apart
            np.save(tmp_path / "five" / str(label) / f"{k}.npy", pixels)
    code, out, _ = cli("check", tmp_path / "five", "--sheet", tmp_path / "sheet.png")
    assert code == 0
    assert "channels: 5 (60 pictures)" in out
    assert "channels 1, 2, 3 of 5, as red, green, blue" in out
    network = ("--model", "conv8 bn relu globalpool", "--epochs", 15, "--learning-rate", 0.05)
    assert cli("train", tmp_path / "five", *network, "--out", tmp_path / "run")[0] == 0
    measured = json.loads(cli("evaluate", tmp_path / "run", "--json")[1])
    assert measured["accuracy"]["value"] == 1.0
    assert "channels 1, 2, 3 of 5" in (tmp_path / "run" / "reports" / "test.html").read_text()
    rgb = tmp_path / "rgb.png"
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(rgb)
    code, out, _ = cli(
        "predict", tmp_path / "run", tmp_path / "five" / "1" / "0.npy", rgb, "--draw", tmp_path / "drawn"
    )
    assert code == 0
    assert "0.npy: 1 " in out
    assert "rgb.png: ERROR channels: 3, but expected 5" in out
    assert "The drawings show channels 1, 2, 3 of 5" in out
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "0.png"))
    assert np.array_equal(drawn[11:264:22, 11:264:22], np.load(tmp_path / "five" / "1" / "0.npy")[..., :3])


def test_a_set_that_cannot_be_fetched_is_told_in_one_paragraph(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from pellucid.data.fetch import Source
    from pellucid.data.known import KNOWN

    nowhere = (Source("http://127.0.0.1:9/EuroSAT.zip", "0" * 32),)  # a port that nobody listens at
    monkeypatch.setitem(KNOWN, "eurosat", replace(KNOWN["eurosat"], sources=nowhere))
    code, _, err = cli("train", "eurosat")
    assert code == 1
    assert "EuroSAT.zip could not be fetched" in err
    assert "sets/eurosat" in err


def test_size_fills_the_formula_in(cli: Cli) -> None:
    found = json.loads(cli("size", "--input", "224x100", "--kernel", 11, "--stride", 4, "--padding", 2, "--json")[1])
    assert found["output"] == [55, 24]
    assert (
        "floor(217 / 4) + 1 = 54 + 1 = 55"
        in cli("size", "--input", 224, "--kernel", 11, "--stride", 4, "--padding", 2)[1]
    )
    code, _, err = cli("size", "--input", 3, "--kernel", 5)
    assert (code, "needs at least W = 5" in err) == (1, True)


def picture(file: str) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def test_filter_writes_a_sheet_and_the_results(cli: Cli, photos: Path, tmp_path: Path) -> None:
    photo = sorted((photos / "zero").iterdir())[0]
    options = (
        "--kernel",
        "edges",
        "--kernel",
        "random5",
        "--pool",
        3,
        "--padding",
        "same",
        "--out",
        tmp_path / "sheet.png",
    )
    code, out, err = cli("filter", photo, *options, "--save", tmp_path / "full", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [kernel["name"] for kernel in found["kernel"]] == ["edges", "random5"]
    assert [kernel["pooled"] for kernel in found["kernel"]] == [[2, 2], [2, 2]]
    assert picture(found["output"]).ndim == 3
    assert [picture(file).shape[:2] for file in found["files"]] == [(8, 8), (2, 2)] * 2
    code, _, err = cli("filter", photo, "--kernel", "1 2; 3")
    assert (code, "rows of 2, 1 numbers" in err) == (1, True)


def test_steps_works_out_one_number(cli: Cli, photos: Path, tmp_path: Path) -> None:
    text = "conv4,psame relu pool dense6"
    run = tmp_path / "run"
    assert cli("train", photos, "--model", text, "--epochs", 1, "--precision", "fp32", "--out", run)[0] == 0
    photo = sorted((photos / "zero").iterdir())[0]
    code, out, err = cli(
        "steps", run, photo, "--layer", "conv1", "--channel", 2, "--at", "3,0", "--out", tmp_path / "s.png", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert {"layer", "position", "terms", "sum", "bias", "value", "torch"} <= set(found)
    assert (found["layer"], found["position"]) == ("conv1", [2, 3, 0])
    assert found["value"] == pytest.approx(found["torch"], rel=1e-5, abs=1e-6)
    assert found["value"] == pytest.approx(sum(term["product"] for term in found["terms"]) + found["bias"])
    assert picture(found["output"]).shape[2] == 3
    assert "softmax over 3 numbers" in cli("steps", run, photo, "--layer", "answer")[1]
    for wrong, said in [
        (("--layer", "conv2"), "Did you mean conv1"),
        (("--channel", 4), "channel 0 to 3"),
        (("--at", "x"), "5,7"),
    ]:
        code, _, err = cli("steps", run, photo, *wrong)
        assert (code, said in err) == (1, True), err
