"""The published network's outputs, on weights and inputs that follow a rule (see `reference_weights` and
`reference_inputs`), reproduced from tests/reference/. Run: pytest tests/test_reference.py"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asgnet import load_reference_checkpoint
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.superpixel import place_seeds, sgc

VECTORS = Path(__file__).parent / "reference"
META = json.loads((VECTORS / "meta.json").read_text())
CASES = META["cases"]


def packed_masks(seeds: dict[str, np.ndarray]) -> np.ndarray:
    return np.unpackbits(seeds["masks"], axis=-1)[..., :473]  # (n, 473, 473)


def reference_weights(keys: Path) -> dict[str, Tensor]:
    state = {}
    for line in keys.read_text().splitlines():
        key, shape = line.split()
        sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        z = np.random.default_rng(zlib.crc32((META["salt"] + key).encode())).standard_normal(sizes)
        z = np.asarray(z, dtype=np.float32)
        if key.endswith("num_batches_tracked"):
            value = np.zeros((), dtype=np.int64)
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(z)
        elif key.endswith("running_mean") or key.endswith("bias"):
            value = 0.1 * z
        elif z.ndim == 1:
            value = (0.3 if ".bn3." in key or ".downsample." in key else 1) * (1 + 0.1 * z)
        else:
            value = (0.5 if key.startswith("down_conv") else 1.4) * z / np.sqrt(np.prod(sizes[1:]))
        state[key] = torch.as_tensor(value, dtype=torch.int64 if z.ndim == 0 else torch.float32)
    return state


def reference_inputs(case: dict, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (2, 3, 473, 473), s_x (2, K, 3, 473, 473), s_y (2, K, 473, 473), s_seed (2, K, 5, 2)."""
    rng = np.random.default_rng([META["base"], case["shots"], case["layers"], int(case["fem"])])

    def images(*lead: int) -> Tensor:
        small = torch.from_numpy(rng.standard_normal((*lead, 3, 12, 12)).astype(np.float32))
        large = F.interpolate(small.flatten(0, -4), size=(473, 473), mode="bicubic", align_corners=True)
        return large.unflatten(0, lead)

    x, s_x = images(2), images(2, case["shots"])
    seeds = np.load(VECTORS / "seeds.npz")
    s_y = torch.from_numpy(packed_masks(seeds)[index].astype(np.float32))
    return x, s_x, s_y, torch.from_numpy(seeds["seeds5"][index])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Write the rule's weights as a published checkpoint."""

    def write(decoder: str, layers: int, prefix: str = "") -> Path:
        state = reference_weights(VECTORS / f"keys_{decoder}_r{layers}.txt")
        path = tmp_path_factory.mktemp("checkpoint") / f"{decoder}_{layers}.pth"
        torch.save({"epoch": 1, "state_dict": {prefix + k: v for k, v in state.items()}}, path)
        return path

    return write


@pytest.mark.parametrize("count", [5, 9])
def test_seed_cells_are_the_published_ones(count):
    vectors = np.load(VECTORS / "seeds.npz")
    masks = torch.from_numpy(packed_masks(vectors))
    seeds = place_seeds(masks, (60, 60), count, 100.0)
    assert torch.equal(seeds.clamp(min=0), torch.from_numpy(vectors[f"seeds{count}"]))
    for mask, expected in zip(masks, seeds, strict=True):
        assert torch.equal(place_seeds(mask.bool(), (60, 60), count, 100.0), expected)


@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_sgc_prototypes_are_the_published_ones(iterations):
    vectors = {name: torch.from_numpy(value)[None] for name, value in np.load(VECTORS / "sgc.npz").items()}
    prototypes, valid = sgc(vectors["features"], vectors["mask"], vectors["seeds"], iterations)
    expected = vectors[f"proto{iterations}"].transpose(1, 2)
    assert valid.all()
    # Relative to each prototype's length: single components near zero differ by more, in the vectors too (up to 2e-4
    # from the same sums in float64).
    assert ((prototypes - expected).norm(dim=2) < 1e-5 * expected.norm(dim=2)).all()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_published_ones(name, checkpoint):
    case, vectors = CASES[name], np.load(VECTORS / f"{name}.npz")
    network = load_reference_checkpoint(checkpoint("fem" if case["fem"] else "aspp", case["layers"], "module."))
    network.encoder.to(memory_format=torch.channels_last)  # twice as fast on the CPU
    assert network.config.published_seed_count
    assert sum(p.numel() for p in network.trainable_parameters()) == case["trainable"]
    x, s_x, s_y, s_seed = reference_inputs(case, vectors["mask_index"])
    with torch.no_grad():
        query, support = network.encode(x), network.encode(s_x.flatten(0, 1))
        for seeds in (s_seed, None):  # placed by the network itself, they are the same
            logits = network.forward_features(query, support, s_y, seeds)
            assert logits.shape == (2, 2, 473, 473)
            error = (logits[:, :, ::8, ::8] - torch.from_numpy(vectors["logits"])).abs().max()
            assert error < 1e-3 * case["out_std"]


def test_every_weight_arrives_under_its_own_name(checkpoint):
    state = reference_weights(VECTORS / "keys_aspp_r50.txt")
    network = load_reference_checkpoint(checkpoint("aspp", 50))
    loaded = network.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("layer4.")}  # carried, never used
    assert len(loaded) == len(state)
    # Published order and ours differ, so compare the sets of tensors by what they hold.
    sums = sorted((tuple(v.shape), float(v.double().sum())) for v in state.values())
    assert sums == sorted((tuple(v.shape), float(v.double().sum())) for v in loaded.values())
    assert torch.equal(loaded["encoder.layers.3.5.conv2.weight"], state["layer3.5.conv2.weight"])
    assert torch.equal(loaded["head.context.residuals.1.2.weight"], state["skip2.3.weight"])


def test_overrides_reach_the_network(checkpoint):
    network = load_reference_checkpoint(checkpoint("fem", 50), published_seed_count=False, max_seeds=9)
    assert isinstance(network, ASGNet)
    assert (network.config.published_seed_count, network.config.max_seeds) == (False, 9)


def test_bad_checkpoints_are_user_errors(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"none\.pth.*no such file"):
        load_reference_checkpoint(tmp_path / "none.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint("fem", 50).read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cut\.pth: truncated"):
        load_reference_checkpoint(cut)
    torch.save({"weights": 1}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="state_dict"):
        load_reference_checkpoint(tmp_path / "other.pth")
    state = reference_weights(VECTORS / "keys_fem_r50.txt")
    state["down_conv_.0.weight"] = state.pop("down_conv.0.weight")
    torch.save({"state_dict": state}, tmp_path / "renamed.pth")
    with pytest.raises(UserError, match=r"missing \(head.down_conv.0.weight\).*unexpected \(down_conv_.0.weight\)"):
        load_reference_checkpoint(tmp_path / "renamed.pth")
