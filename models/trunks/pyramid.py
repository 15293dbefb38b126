"""The trunk of Vision Permutator and its relatives: patches, stages of blocks, a pooled head.

A family hands in a function that makes the token mixer of one block; everything else is here, in
`FlatPyramid` what all have in common, in `Pyramid` the form with patches that do not overlap.
`network` is a flat list of the stages *and* the downsampling layers between them, because the
authors' checkpoints number both. Shapes: B batch, H W token grid, C channels; (B, H, W, C) inside.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.layers.arguments import Size, check_counts, check_ratio, check_stages
from models.layers.basic import (
    ChannelMlp,
    Downsample,
    PatchEmbed,
    drop_path_rates,
    drop_paths,
    init_linear,
)
from models.layers.classifier import Classifier, FixedSizeClassifier

MixerFactory = Callable[[int, int, tuple[int, int]], nn.Module]
"""(stage, width, token grid) -> the mixer of one block of that stage."""


class Block(nn.Module):
    """x + mix(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp_ratio: float,
        drop_path: float | None,
        *,
        norm1: Callable[[int], nn.Module] = nn.LayerNorm,
        norm2: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm1 = norm1(dim)
        self.attn = mixer
        self.norm2 = norm2(dim)
        self.mlp = ChannelMlp(dim, int(dim * mlp_ratio))
        self.drop_path1, self.drop_path2 = drop_paths(drop_path, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class FlatPyramid(Classifier):
    """Features of `patch_embed`, the flat list `network` and `norm`, which a subclass makes."""

    patch_embed: nn.Module
    network: nn.ModuleList
    norm: nn.Module

    def init_head(self, head: nn.Linear) -> None:
        """The classifier starts like every other linear layer."""
        init_linear(head)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens of the last stage.

        Raises:
            ValueError: if the images are not of a size that the model can classify.
        """
        self.check_images(images)
        x = self.patch_embed(images)
        for part in self.network:
            if isinstance(part, nn.Sequential):
                for block in part:
                    x = self.run_block(block, x)
            else:
                x = part(x)
        return self.norm(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        if coarse:
            return {
                "stem": r"^patch_embed",
                "blocks": [(r"^network\.(\d+)", None), (r"^norm", (99999,))],
            }
        return {
            "stem": r"^patch_embed",
            "blocks": [
                (r"^network\.(\d+)\.(?:proj|norm)", (0,)),
                (r"^network\.(\d+)\.(\d+)", None),
                (r"^norm", (99999,)),
            ],
        }


class Pyramid(FlatPyramid, FixedSizeClassifier):
    """An image classifier of stages of equal width and grid, with timm's classifier interface.

    Args:
        make_mixer: makes one block's token mixer.
        depths: number of blocks per stage.
        dims: width per stage.
        transitions: for every stage but the last, whether the grid is halved after it.
        patch_size: side of the square patches in pixels.
        img_size: height and width of the input, or one number for both; it takes this size only.
        mlp_ratio: hidden width of the channel MLP in multiples of the stage's width.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        drop_path_rate: of the last block; the rates rise linearly from 0.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self,
        make_mixer: MixerFactory,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        transitions: Sequence[bool],
        patch_size: int,
        img_size: Size,
        mlp_ratio: float,
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__(
            img_size=img_size, in_chans=in_chans, num_classes=num_classes, global_pool=global_pool
        )
        check_stages(depths=depths, dims=dims)
        check_counts(patch_size=patch_size)
        check_ratio("mlp_ratio", mlp_ratio, width=min(dims))
        if not len(depths) == len(dims) == len(transitions) + 1:
            raise ValueError(
                f"depths {tuple(depths)}, dims {tuple(dims)} and transitions {tuple(transitions)} "
                "do not fit: give one depth and one width per stage, and one transition less"
            )
        self.grids = token_grids(self.img_size, patch_size, transitions)

        self.patch_embed = PatchEmbed(in_chans, dims[0], patch_size)
        self.network = nn.ModuleList()
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage > 0 and (transitions[stage - 1] or dims[stage - 1] != dim):
                stride = 2 if transitions[stage - 1] else 1
                self.network.append(Downsample(dims[stage - 1], dim, stride))
            blocks = [
                Block(
                    dim,
                    make_mixer(stage, dim, self.grids[stage]),
                    mlp_ratio,
                    next(rates) if drop_path_rate > 0 else None,
                )
                for _ in range(depth)
            ]
            self.network.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(dims[-1])
        self.apply(init_linear)
        self.add_head(dims[-1], drop_rate)


def per_stage_numbers(
    name: str, value: Sequence[int] | int, dims: Sequence[int]
) -> tuple[int, ...]:
    """One number for each stage, of which there are as many as `dims`, from one number or several.

    Raises:
        ValueError: if there is another number of them, or one is less than 1.
    """
    check_stages(dims=dims)
    check_counts(**{name: value})
    numbers = (value,) * len(dims) if isinstance(value, int) else tuple(value)
    if len(numbers) != len(dims):
        raise ValueError(f"{name} {numbers}: give one number for each of the {len(dims)} stages")
    return numbers


def token_grids(
    img_size: tuple[int, int], patch_size: int, transitions: Sequence[bool]
) -> list[tuple[int, int]]:
    """Token grid (H, W) of each stage.

    Raises:
        ValueError: if nothing is left of the image in some stage.
    """
    stride = patch_size
    grids = [(img_size[0] // stride, img_size[1] // stride)]
    for transition in transitions:
        height, width = grids[-1]
        grids.append((height // 2, width // 2) if transition else (height, width))
        stride *= 2 if transition else 1
    if min(grids[-1]) < 1:
        raise ValueError(
            f"img_size {img_size[0]}x{img_size[1]} is too small: patches of {patch_size} pixels "
            f"and {sum(transitions)} halvings need at least {stride}x{stride}"
        )
    return grids
