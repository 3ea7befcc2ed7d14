"""A published checkpoint kept in this project's own format, to be loaded without the ``.pth``."""

from pathlib import Path

from safetensors.torch import save_file

from asgnet.backbones import build_encoder
from asgnet.backbones.weights import load_strictly, read_tensors
from asgnet.checkpoint import load_head, save_head
from asgnet.files import atomic_path
from asgnet.model import ASGNet

ENCODER = "encoder.safetensors"


def save_converted(network: ASGNet, folder: Path | str) -> None:
    """Keep a network that `asgnet.load_reference_checkpoint` made: head.safetensors and meta.json as for a trained run,
    and encoder.safetensors, for a published checkpoint brings a backbone of its own, whose BatchNorm statistics have
    drifted (departure 2). `load_converted` reads them back without the ``.pth``."""
    assert network.encoder is not None  # a published checkpoint holds one
    save_head(folder, network.trainable_state(), network.config, list(network.sources))
    with atomic_path(Path(folder) / ENCODER) as temporary:
        save_file({name: value.contiguous() for name, value in network.encoder.state_dict().items()}, temporary)


def load_converted(folder: Path | str) -> ASGNet:
    """The network that `save_converted` kept, in eval mode. Raises UserError for files that are missing, truncated or
    of another network."""
    weights, config, sources = load_head(folder)
    encoder = build_encoder(config, pretrained=False)
    path = Path(folder) / ENCODER
    load_strictly(encoder, read_tensors(path), str(path))
    encoder.source = str(path)
    network = ASGNet(config, encoder=encoder, vit=None, sources=sources)
    network.load_trainable(weights, str(folder))
    return network.eval()
