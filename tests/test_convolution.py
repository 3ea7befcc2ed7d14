"""The convolutions that learn are torch's. Run: pytest tests/test_convolution.py"""

import pytest
import torch
from torch import Tensor, nn

from asgnet.convolution import Conv2d
from asgnet.rng import torch_generator

FORMS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "bias": False},
    {"kernel_size": 1, "stride": 2, "bias": False},
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 3, "padding": 0, "bias": False},
]


def results(conv: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of input, weights and bias under a fixed gradient of the output."""
    x = x.detach().requires_grad_()
    conv.zero_grad()
    y = conv(x)
    y.backward(torch.randn(y.shape, generator=torch_generator(1, "convolution")).to(y.dtype))
    return [y, x.grad, *(p.grad for p in conv.parameters())]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("sides", [(3, 3), (7, 5), (12, 17)])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_outputs_and_gradients_are_those_of_torch(form, sides, memory_format):
    rng = torch_generator(0, "convolution")
    conv = Conv2d(6, 9, **form)
    plain = nn.Conv2d(6, 9, **form).double()
    for weight, own in zip(plain.parameters(), conv.parameters(), strict=True):
        own.data = torch.randn(own.shape, generator=rng)
        weight.data = own.data.double()
    x = torch.randn(3, 6, *sides, generator=rng).to(memory_format=memory_format)
    for ours, theirs in zip(results(conv, x), results(plain, x.double()), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)
    assert conv.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_under_autocast_they_are_torchs_own(form):
    conv = Conv2d(4, 4, **form)
    plain = nn.Conv2d(4, 4, **form)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 9, 9, generator=torch_generator(2, "convolution"))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), plain(x))


def test_only_the_gradients_that_are_asked_for_are_made():
    conv, x = Conv2d(4, 4, 3, padding=1, bias=False), torch.randn(1, 4, 5, 5)
    conv(x).sum().backward()
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    assert not conv(x).requires_grad
