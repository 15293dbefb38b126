"""The trunk of DynaMixer and Vision Permutator as the papers draw it, for their plain forms.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.trunks.pyramid`. There is no stochastic depth. Activations are (B, H, W, C).
"""

from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp


class Convolution(nn.Module):
    """Patches, and downsampling between stages: (B, C, H, W) in, (B, H, W, C) out."""

    def __init__(self, in_chans: int, dim: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H / stride, W / stride, dim)."""
        return self.proj(x).permute(0, 2, 3, 1)


class ThreeBranches(nn.Module):
    """proj of the sum of the branches, weighted per image and channel or not at all."""

    def __init__(self, dim: int, num_branches: int, reweight: bool = True) -> None:
        super().__init__()
        self.reweight = Mlp(dim, dim // 4, num_branches * dim) if reweight else None
        self.proj = nn.Linear(dim, dim)

    def fuse(self, branches: list[Tensor]) -> Tensor:
        """Branches (B, H, W, C) -> (B, H, W, C)."""
        total = sum(branches[1:], start=branches[0])
        if self.reweight is None:
            return self.proj(total)
        B, _, _, C = total.shape
        logits = self.reweight(total.mean(dim=(1, 2))).reshape(B, C, len(branches))
        weights = logits.softmax(dim=2).permute(2, 0, 1)[:, :, None, None, :]
        weighted = [w * branch for w, branch in zip(weights, branches, strict=True)]
        return self.proj(sum(weighted[1:], start=weighted[0]))


class Block(nn.Module):
    """Two residual branches."""

    def __init__(self, dim: int, mixer: nn.Module, ratio: float = 3) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = mixer
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(ratio * dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PlainPyramid(nn.Module):
    """Patches, stages of blocks, mean over tokens, classifier."""

    def __init__(
        self, make_mixer, *, depths, dims, transitions, patch_size, img_size, in_chans, num_classes
    ) -> None:
        super().__init__()
        self.patch_embed = Convolution(in_chans, dims[0], patch_size)
        self.network = nn.ModuleList()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        grid = [height // patch_size, width // patch_size]
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage > 0 and (transitions[stage - 1] or dims[stage - 1] != dim):
                stride = 2 if transitions[stage - 1] else 1
                self.network.append(Convolution(dims[stage - 1], dim, stride))
                grid = [size // stride for size in grid]
            mixers = [make_mixer(stage, dim, tuple(grid)) for _ in range(depth)]
            self.network.append(nn.Sequential(*[Block(dim, mixer) for mixer in mixers]))
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.patch_embed(images)
        for part in self.network:
            x = part(x.permute(0, 3, 1, 2)) if isinstance(part, Convolution) else part(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))
