"""DINOv2's ViT-S/14 (Oquab et al. 2023) without its classifier, under timm's names of its tensors.

It computes what timm's ``vit_small_patch14_dinov2`` does, to the last bit; importing timm takes longer than a
prediction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "vit_small_patch14_dinov2"  # timm's
WIDTH, DEPTH, HEADS, PATCH = 384, 12, 6, 14


class DinoV2(nn.Module):
    """Images (N, 3, S, S), ImageNet-normalised -> tokens (N, 1 + T, D), the class token first, T = (S / 14) ** 2."""

    def __init__(self, size: int) -> None:
        """For images of ``size`` pixels a side, a multiple of 14; small random weights."""
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // PATCH) ** 2, WIDTH))
        self.patch_embed = Patches()
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward_features(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)  # (N, T, D)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.norm(self.blocks(x))


class Patches(nn.Module):
    """(N, 3, S, S) -> one token for each patch, row by row, (N, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Attention and two linear layers, each on normalised tokens, scaled by channel and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.ls1 = Scale()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = Mlp()
        self.ls2 = Scale()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """Self-attention of `HEADS` heads, (N, 1 + T, D) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # 3 x (N, heads, 1 + T, D / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    """Every channel times a learnt number."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((WIDTH,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
