"""The trunk of sMLPNet and RaftMLP: levels, of which each begins with its own embedding.

A family makes the levels; features and learning-rate groups of them are here. Shapes: B batch,
H W token grid, C channels; (B, H, W, C) inside.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from models.layers.classifier import Classifier


class Level(nn.Module):
    """An embedding, of images in the first level and of (B, H, W, C) in the others, and blocks."""

    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*blocks)


class LevelPyramid(Classifier):
    """Features of the levels in `levels` and of `norm`, which a subclass makes."""

    levels: nn.ModuleList
    norm: nn.Module

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens of the last level.

        Raises:
            ValueError: if the images are not of a size that the model can classify.
        """
        self.check_images(images)
        x = images
        for level in self.levels:
            assert isinstance(level, Level)
            x = level.embed(x)
            for block in level.blocks:
                x = self.run_block(block, x)
        return self.norm(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        blocks: list[tuple[str, tuple[int, ...] | None]] = [
            (r"^levels\.(\d+)\.embed", (-1,)),
            (r"^levels\.(\d+)\.blocks\.(\d+)", None),
        ]
        if coarse:
            blocks = [(r"^levels\.(\d+)", None)]
        return {"stem": r"^levels\.0\.embed", "blocks": [*blocks, (r"^norm", (99999,))]}
