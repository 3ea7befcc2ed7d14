"""Photographs of one's own: any kind of picture in, a mask of the query's own size out; mistakes are one clear line."""

import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import ROOT, tiny_study

from asgnet.checkpoint import save_head
from asgnet.cli import main
from asgnet.data.photo import read_mask, read_photo
from asgnet.data.transforms import fit, normalise, unfit
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.predict import find, learn, segment
from asgnet.sections import ModelConfig

SIZE = 65
CONFIG = ModelConfig(backbone="lite0", width=16, max_seeds=3, normalise_sources=True)
TURNED = 6  # EXIF orientation: shown turned by 90 degrees


@pytest.fixture(scope="module")
def model() -> ASGNet:
    torch.manual_seed(0)
    return ASGNet(CONFIG).eval()


def photo(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def box(height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[height // 4 : 3 * height // 4, width // 5 : 4 * width // 5] = True
    return mask


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a study, a run of random weights, a support with its mask, and a query."""
    monkeypatch.chdir(tmp_path)
    tiny_study(tmp_path, data={"size": SIZE}, features={"pretrained": False})
    torch.manual_seed(0)
    network = ASGNet(CONFIG, encoder=None)
    save_head(Path("run"), network.trainable_state(), CONFIG, list(network.sources))
    Image.fromarray(photo()).save("s.jpg")
    Image.fromarray(box()).save("m.png")
    Image.fromarray(photo(50, 30, 1)).save("q.jpg")
    return tmp_path


def predict(*arguments: str, query: str = "q.jpg", support: str = "s.jpg", mask: str = "m.png", out: str = "o.png"):
    given = ("--query", query, "--support", support, "--mask", mask, "-o", out)
    return main(("predict", *given, *(("--run", "run") if "--run" not in arguments else ()), *arguments))


def refused(capsys, *arguments: str, **named: str) -> str:
    assert predict(*arguments, **named) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(("shots", "outline"), [(1, "cells"), (3, "cells"), (1, "image")])
def test_a_prediction_is_the_forward_pass_on_the_squares_brought_back(model, shots, outline, monkeypatch):
    monkeypatch.setattr(model, "config", replace(CONFIG, outline=outline))
    monkeypatch.setattr("asgnet.predict.autocast", lambda device: nullcontext())  # both in float32
    supports, masks = [photo(seed=k) for k in range(shots)], [box() for _ in range(shots)]
    query = photo(37, 91, 9)
    mask, probability = segment(model, query, supports, masks, SIZE)
    pairs = [fit(*pair, SIZE) for pair in zip(supports, (m.astype(np.uint8) for m in masks), strict=True)]
    s_x = normalise(np.stack([image for image, _ in pairs]))[None]
    s_y = torch.from_numpy(np.stack([inside for _, inside in pairs]))[None]
    with torch.no_grad():
        logits = model(normalise(fit(query, np.zeros((37, 91), np.uint8), SIZE)[0])[None], s_x, s_y)
    expected = unfit(logits, 37, 91)[0].softmax(0)[1].numpy()
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert (mask.shape, mask.dtype, probability.dtype) == ((37, 91), bool, np.float32)
    np.testing.assert_array_equal(mask, probability > 0.5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7), (65, 65), (400, 300)])
def test_any_size_comes_back_at_its_own(model, shape):
    mask, probability = segment(model, photo(*shape), [photo()], [box()], SIZE)
    assert mask.shape == probability.shape == shape
    assert (probability >= 0).all()
    assert (probability <= 1).all()


def test_supports_are_learned_once_for_many_queries(model):
    learned = learn(model, [photo()], [box()], SIZE)
    for seed in (1, 2):
        found = find(model, learned, photo(seed=seed))
        alone = segment(model, photo(seed=seed), [photo()], [box()], SIZE)
        np.testing.assert_array_equal(found.probability, alone[1])


def test_files_images_and_arrays_are_the_same_picture(model, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "s.png")
    expected = read_photo(photo())
    for source in (tmp_path / "s.png", str(tmp_path / "s.png"), Image.fromarray(photo()), photo() / 255):
        np.testing.assert_array_equal(read_photo(source), expected)


def test_modes_of_photographs(tmp_path):
    grey = photo()[..., 0]
    np.testing.assert_array_equal(read_photo(grey), np.stack([grey] * 3, 2))
    np.testing.assert_array_equal(read_photo(grey.astype(np.uint16) * 257), np.stack([grey] * 3, 2))
    path = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(read_photo(path), np.stack([grey] * 3, 2))
    paletted = Image.fromarray(photo()).quantize(16)
    paletted.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "p.png"), np.array(paletted.convert("RGB")))
    clear = np.dstack([photo(), np.zeros((40, 60), np.uint8)])
    assert (read_photo(clear) == 255).all()  # transparent: white, not what hides beneath
    for mode in ("CMYK", "YCbCr", "LA", "1"):
        assert read_photo(Image.fromarray(photo()).convert(mode)).shape == (40, 60, 3)


def test_a_photograph_is_read_upright_and_its_mask_is_drawn_on_what_is_shown(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = TURNED
    Image.fromarray(photo()).save(tmp_path / "s.png", exif=exif)
    upright = np.rot90(photo(), -1)
    np.testing.assert_array_equal(read_photo(tmp_path / "s.png"), upright)
    found = segment(model, photo(), [tmp_path / "s.png"], [np.rot90(box(), -1)], SIZE)
    expected = segment(model, photo(), [upright], [np.rot90(box(), -1)], SIZE)
    np.testing.assert_array_equal(found[1], expected[1])
    with pytest.raises(UserError, match=r"mask 1 is 60 x 40 pixels but .*s.png is 40 x 60 as it is shown"):
        segment(model, photo(), [tmp_path / "s.png"], [box()], SIZE)


def palette_mask(*classes: int) -> Image.Image:
    from voc_tree import box_mask

    from asgnet.data.tree import voc_palette

    image = Image.fromarray(box_mask(*classes))
    image.putpalette(voc_palette())
    return image


def test_masks_in_black_and_white():
    for values in (box(), box() * 1, box().astype(np.uint8) * 255, box() * 12):
        np.testing.assert_array_equal(read_mask(values), box())
    rough = box() * 235 + np.random.default_rng(0).integers(0, 20, box().shape)  # as JPEG leaves it
    for image in (
        Image.fromarray(box()),
        Image.fromarray(rough.astype(np.uint8)),
        Image.fromarray(box().astype(np.uint8) * 255).convert("RGB"),
        Image.fromarray(box().astype(np.uint8) * 255).convert("P"),
        Image.fromarray(box().astype(np.uint16) * 65535),
        Image.fromarray(np.dstack([np.full((40, 60, 3), 255, np.uint8), box().astype(np.uint8) * 255])),
    ):
        np.testing.assert_array_equal(read_mask(image), box())


def test_masks_of_classes():
    one, two = palette_mask(12), palette_mask(12, 15)
    twelve = np.array(one) == 12
    np.testing.assert_array_equal(read_mask(one), twelve)  # 255, its border, is not the object
    np.testing.assert_array_equal(read_mask(two, 12), twelve)
    np.testing.assert_array_equal(read_mask(Image.fromarray(np.array(two)), 12), twelve)  # grey
    np.testing.assert_array_equal(read_mask(np.array(two).astype(np.int64), 12), twelve)
    with pytest.raises(UserError, match="several classes: choose one of 12, 15 with --class"):
        read_mask(two)
    with pytest.raises(UserError, match="has no pixel of class 3: it holds 0, 12, 15, 255"):
        read_mask(two, 3)
    with pytest.raises(UserError, match="mode RGB"):
        read_mask(two.convert("RGB"), 12)
    with pytest.raises(UserError, match="holds 0, 7, 12: choose a class"):
        read_mask(np.array([[0, 7, 12]]))


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.full((4, 4, 3), np.nan), "floats outside 0..1"),
        (np.full((4, 4, 3), 200.0), "floats outside 0..1"),
        (np.zeros((4, 4, 2), np.uint8), r"array \(4, 4, 2\) of uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"array \(0, 4, 3\)"),
        (np.zeros((4, 4), np.int64), "of int64"),
        (Image.new("F", (4, 4)), "floating point"),
    ],
)
def test_arrays_that_are_no_photographs(picture, said):
    with pytest.raises(UserError, match=said):
        read_photo(picture)


def test_supports_and_masks_that_do_not_fit(model):
    with pytest.raises(UserError, match="2 supports and 1 masks"):
        segment(model, photo(), [photo(), photo()], [box()], SIZE)
    with pytest.raises(UserError, match="mask 2 is empty"):
        segment(model, photo(), [photo(), photo()], [box(), ~box() & box()], SIZE)
    dot = np.zeros((400, 400), bool)
    dot[0, 0] = True
    with pytest.raises(UserError, match="object of support 1 vanishes at 65 pixels"):
        segment(model, photo(), [photo(400, 400)], [dot], SIZE)
    with pytest.raises(UserError, match="8n \\+ 1"):
        segment(model, photo(), [photo()], [box()], 64)


def test_one_query_with_all_pictures(folder):
    assert predict("--overlay", "--probability", "--superpixels", out="new folder/ö.png") == 0
    written = {path.name: Image.open(path) for path in (folder / "new folder").iterdir()}
    assert set(written) == {"ö.png", "ö_overlay.png", "ö_probability.png", "ö_superpixels.png"}
    assert [written[n].size for n in ("ö.png", "ö_overlay.png", "ö_probability.png")] == [(30, 50)] * 3
    mask = np.array(written["ö.png"])
    assert set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(mask > 0, np.array(written["ö_probability.png"]) >= 128)


def test_a_prediction_waits_for_no_library_that_it_can_do_without(folder):
    tiny_study(folder, data={"size": SIZE})  # with the weights of a package
    code = "import sys; from asgnet.cli import main; assert main(sys.argv[1:]) == 0; print(*sys.modules)"
    arguments = ["predict", "--run", "run", "--query", "q.jpg", "--support", "s.jpg", "--mask", "m.png", "-o", "o.png"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert not {"huggingface_hub", "pandas", "scipy", "sympy", "timm", "torchvision"} & set(done.stdout.split())


def test_several_supports_of_a_class(folder):
    palette_mask(12, 15).resize((60, 40), Image.Resampling.NEAREST).save("p.png")
    assert predict("--support", "s.jpg", "--mask", "p.png", "--class", "12", mask="p.png") == 0


def test_a_folder_of_queries(folder, capsys):
    Path("queries").mkdir()
    for k in range(3):
        Image.fromarray(photo(20 + k, 30, k)).save(f"queries/{k}.jpg")
    Path("queries/notes.txt").write_text("no photograph")
    assert predict(query="queries", out="masks") == 0
    assert "queries: 3/3" in capsys.readouterr().out
    assert sorted(path.name for path in Path("masks").iterdir()) == ["0.png", "1.png", "2.png"]
    assert Image.open("masks/2.png").size == (30, 22)
    Path("queries/1.jpg").write_bytes(Path("queries/1.jpg").read_bytes()[:300])
    assert "1 of 3 queries have no mask: cannot read the image queries/1.jpg" in refused(
        capsys, query="queries", out="others"
    )
    assert sorted(path.name for path in Path("others").iterdir()) == ["0.png", "2.png"]


def write_bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has 20,000 x 20,000 pixels."""
    Image.new("L", (1, 1)).save(path)
    whole = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 20000, 20000) + whole[24:29]
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": "none.jpg"}, "none.jpg: no such file"),
        ({"query": "empty.jpg"}, "cannot read the image empty.jpg: damaged"),
        ({"query": "cut.jpg"}, "cannot read the image cut.jpg: damaged"),
        ({"query": "params.yaml"}, "cannot read the image params.yaml"),
        ({"query": "bomb.png"}, "bomb.png: over 178,956,970 pixels"),
        ({"support": "run"}, "run is not a file"),
        ({"mask": "black.png"}, "black.png is empty"),
        ({"mask": "wide.png"}, "wide.png is 61 x 40 pixels but s.jpg is 60 x 40"),
        ({"out": "o.jpg"}, "a mask is written as PNG"),
        ({"out": "m.png"}, "m.png: would write over an input"),
        ({"query": "empty"}, "empty: no photographs in this folder"),
        ({"query": "twice"}, "would both write"),
        ({"out": "q.jpg/o.png"}, "cannot write q.jpg/o.png"),
    ],
)
def test_mistakes_write_nothing(folder, capsys, changes, said):
    Path("empty.jpg").touch()
    Path("empty").mkdir()
    Path("twice").mkdir()
    for name in ("twice/a.jpg", "twice/a.png"):
        Image.fromarray(photo()).save(name)
    Path("cut.jpg").write_bytes(Path("q.jpg").read_bytes()[:400])
    write_bomb(Path("bomb.png"))
    Image.new("L", (60, 40)).save("black.png")
    Image.fromarray(box(40, 61)).save("wide.png")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    changes = {"out": "masks"} | changes if changes.get("query") == "twice" else changes
    assert said in refused(capsys, **changes)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_without_a_trained_run_the_message_names_those_that_are_there(folder, capsys):
    arguments = ("predict", "--query", "q.jpg", "--support", "s.jpg", "--mask", "m.png", "-o", "o.png")
    assert main(arguments) == 2
    assert "no network trained on all classes at results/parts/all/vit_patch/seed0" in capsys.readouterr().err
    there = Path("results/parts/baseline/fold1/seed0")
    there.parent.mkdir(parents=True)
    Path("run").rename(there)
    assert main(arguments) == 2
    assert f"--run with one of {there}" in capsys.readouterr().err
    Path("params.yaml").unlink()
    assert main(arguments) == 2
    assert "no params.yaml here" in capsys.readouterr().err
    assert main((*arguments, "--run", "nowhere")) == 2
    assert "train the run first" in capsys.readouterr().err


def test_a_network_is_trained_on_all_classes_and_found(study, capsys):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["predict"] = {"arm": "baseline", "seed": 0}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("episodes").unlink()  # shared by tests; the stage writes beside it
    shutil.copytree(Path("data").resolve().parent / "episodes", "episodes")
    assert main(("train-all",)) == 0
    run = Path("results/parts/all/baseline/seed0")
    assert {path.name for path in run.iterdir()} >= {"head.safetensors", "meta.json", "history.csv", "train.json"}
    assert "novel" not in (run / "history.csv").read_text()
    Image.fromarray(photo()).save("s.jpg")
    Image.fromarray(box()).save("m.png")
    assert main(("predict", "--query", "s.jpg", "--support", "s.jpg", "--mask", "m.png", "-o", "o.png")) == 0
    assert Image.open("o.png").size == (60, 40)


def test_the_notebook_runs(folder):
    from asgnet.notebook import run_notebook

    run_notebook(ROOT / "notebooks/predict.ipynb", Path("predict.ipynb"), ["run=run"])
