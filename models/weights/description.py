"""What weights are of: variant, arguments, class names and input, kept beside them everywhere.

Without it a file of numbers can be loaded by whoever remembers the recipe, and by nobody else. It
lies in `meta.json` of a checkpoint, in the metadata of safetensors, and in what is exported.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from timm.data.imagenet_info import ImageNetInfo

from models.build import InputConfig

_NUM_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDescription:
    """Everything that makes the model again and feeds it."""

    name: str
    """Of the variant, in timm's registry."""
    arguments: dict[str, object]
    """Of the constructor, beside the number of classes, where they are not the variant's own."""
    classes: tuple[str, ...]
    """Names of the outputs, in their order; empty where they are not known."""
    input: InputConfig

    def as_metadata(self) -> dict[str, str]:
        """As safetensors keeps it: strings; what is none is JSON."""
        tree = asdict(self)
        return {
            "model": self.name,
            **{key: json.dumps(tree[key]) for key in ("arguments", "classes", "input")},
        }


def description_from_tree(tree: Mapping[str, object]) -> ModelDescription:
    """Read what `dataclasses.asdict` and JSON made of a description.

    Raises:
        KeyError, TypeError: if it is none.
    """
    fields = dict(cast("Mapping[str, object]", tree["input"]))
    fields |= {
        name: tuple(cast("list[float]", value))
        for name, value in fields.items()
        if isinstance(value, (list, tuple))
    }
    return ModelDescription(
        name=cast("str", tree["name"]),
        arguments=dict(cast("Mapping[str, object]", tree["arguments"])),
        classes=tuple(cast("list[str]", tree["classes"])),
        input=InputConfig(**fields),  # pyright: ignore[reportArgumentType] (read from JSON)
    )


def description_from_metadata(metadata: Mapping[str, str]) -> ModelDescription | None:
    """Read what `as_metadata` made; None if the file says nothing of the kind."""
    if "model" not in metadata or "input" not in metadata:
        return None
    tree = {key: json.loads(metadata[key]) for key in ("arguments", "classes", "input")}
    return description_from_tree({"name": metadata["model"], **tree})


def imagenet_classes(num_classes: int) -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes for so many outputs; empty for other numbers."""
    if num_classes != _NUM_IMAGENET_CLASSES:
        return ()
    return tuple(ImageNetInfo().label_names())


def words_for(classes: tuple[str, ...]) -> tuple[str, ...]:
    """What people call the classes: WordNet's words where they are WordNet ids, else themselves."""
    words = ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
    assert isinstance(words, dict)
    return tuple(words.get(name, name) for name in classes)
