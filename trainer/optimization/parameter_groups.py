"""Parameter groups: what is decayed, and at which share of the learning rate each weight learns."""

from fnmatch import fnmatchcase

from torch import nn

from models.build import classifier_weights, layer_ids
from trainer.optimization.optim import OptimConfig


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, object]]:
    """Groups of weights with a `weight_decay`, and an `lr_scale` where it is not 1.

    Decayed groups come first; biases, norms, what the model exempts and what `no_decay` names are
    not decayed. Groups are never empty, since ZeRO cannot flatten an empty one.

    Raises:
        ValueError: if a pattern of `no_decay` matches nothing, or there is no classifier that
            could learn faster than the rest.
    """
    exempt = (*getattr(model, "no_weight_decay", set)(), *config.no_decay)
    scales = lr_scales(model, config)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    check_patterns(
        "optim.no_decay", config.no_decay, [name for name, _ in model.named_parameters()]
    )
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name in names:
        weight = model.get_parameter(name)
        spared = weight.ndim <= 1 or name.endswith(".bias")
        # timm's models name patterns, too.
        spared = spared or any(fnmatchcase(name, pattern) for pattern in exempt)
        key = (spared and not config.decay_all, scales.get(name, 1.0))
        groups.setdefault(key, []).append(weight)
    built: list[dict[str, object]] = []
    for (spared, scale), weights in sorted(groups.items(), key=lambda item: item[0]):
        decay = 0.0 if spared else config.weight_decay
        built.append({"params": weights, "weight_decay": decay})
        if scale != 1.0:
            built[-1]["lr_scale"] = scale
    return built


def lr_scales(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    """The share of the learning rate of each weight by name; those that are not in it have 1."""
    scales: dict[str, float] = {}
    if config.layer_decay != 1.0:
        layers = layer_ids(model)
        last = max(layers.values())
        scales = {name: config.layer_decay ** (last - layer) for name, layer in layers.items()}
    if config.backbone_lr != 1.0:
        head = {id(weight) for weight in classifier_weights(model)}
        if not head:
            raise ValueError(
                f"optim.backbone_lr: {type(model).__name__} has no classifier to learn faster than"
                " the rest; leave it out"
            )
        for name, weight in model.named_parameters():
            if id(weight) not in head:
                scales[name] = scales.get(name, 1.0) * config.backbone_lr
    return scales


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Exclude the weights whose names match one of `patterns` from training.

    A normalisation layer whose weights are all frozen also keeps its running statistics, see
    `frozen_norms`.

    Raises:
        ValueError: if a pattern matches nothing, or nothing is left to train.
    """
    check_patterns("model.freeze", patterns, [name for name, _ in model.named_parameters()])
    for name, weight in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            weight.requires_grad = False
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError(f"model.freeze: {list(patterns)} leaves nothing to train; name fewer")


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """BatchNorm layers with weights of which none is trained: they stay in evaluation mode."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.affine
        and not any(weight.requires_grad for weight in module.parameters())
    ]


def check_patterns(key: str, patterns: tuple[str, ...], names: list[str]) -> None:
    """Refuse a pattern that matches none of `names`.

    Raises:
        ValueError: naming the key, the pattern and some names.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            few = ", ".join(names[:3])
            raise ValueError(
                f"{key}: {pattern!r} matches no weight; names are such as {few}, and * stands for"
                " any part"
            )
