"""Drawn operations make timm's and torchvision's pictures, and their kernels say the same."""

import random

import numpy as np
import pytest
import timm.data.auto_augment as timm_augment
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms.autoaugment import _apply_op

from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.augment.kernels import Kernel, kernel_calls
from pipeline.augment.policies.levels import arguments, torchvision_argument, translate_range
from pipeline.augment.policies.operations import (
    RESAMPLING,
    Filter,
    Operation,
    OperationDraws,
    argument_of,
)
from pipeline.augment.policies.policy import parse_policy
from pipeline.augment.policy_draws import _choices, augmix_draws
from pipeline.augment.reference_operations import apply_draws, apply_operation
from pipeline.augment.variates import normal
from pipeline.counter import Stream, uniforms

SIZE = 72
FILL = (124, 116, 104)
MEAN = (0.485, 0.456, 0.406)
KEY = {"seed": 5, "epoch": 3, "samples": np.arange(40)}
PILLOW = {
    Filter.NEAREST: Image.Resampling.NEAREST,
    Filter.BILINEAR: Image.Resampling.BILINEAR,
    Filter.BICUBIC: Image.Resampling.BICUBIC,
}


@pytest.fixture(scope="module")
def picture(photographs):
    return Image.fromarray(photographs[1]).resize((SIZE, SIZE))


@pytest.mark.parametrize("share", [0.45, 0.3])
@pytest.mark.parametrize("operation", timm_augment.LEVEL_TO_ARG)
def test_arguments_are_timms_at_all_magnitudes(operation, share, monkeypatch):
    magnitudes = np.concatenate([np.arange(0, 31, 0.25), np.random.default_rng(0).random(99) * 10])
    codes = np.full(magnitudes.shape, Operation[operation], np.uint8)
    hparams = {"translate_const": int(SIZE * 0.45), "translate_pct": share}
    level = timm_augment.LEVEL_TO_ARG[operation]
    for negative in (False, True):
        monkeypatch.setattr(timm_augment, "_randomly_negate", lambda v, n=negative: -v if n else v)
        expected = [level(m, hparams)[0] if level else np.nan for m in magnitudes]
        signs = np.full(magnitudes.shape, negative)
        args = arguments(codes, magnitudes, signs, translate_range(SIZE, share))
        np.testing.assert_array_equal(args, np.array(expected, float))


def draws_of(text):
    augmentation = ImageAugmentation(policy=parse_policy(text), mean=MEAN)
    assert augmentation.fill == FILL
    return image_draws(augmentation, **KEY, size=SIZE)


class TimmWithOurNumbers:
    """Stands for the module `random` in timm, and deals out our numbers of one operation."""

    def __init__(self, policy, position, samples):
        draw = {"seed": KEY["seed"], "epoch": KEY["epoch"], "samples": samples}
        count = policy.layers * max(map(len, policy.choices))
        apply, sign, filters, radius, uniform = (
            uniforms(stream, **draw, count=count)[0, position]
            for stream in (
                Stream.APPLY,
                Stream.SIGN,
                Stream.FILTER,
                Stream.BLUR_RADIUS,
                Stream.MAGNITUDE,
            )
        )
        self.normal = normal(
            uniforms(Stream.MAGNITUDE, **draw, count=2 * count).reshape(count, 2)[position]
        )
        self.decides = apply
        self.turns = 1 - sign  # timm negates above a half
        self.is_bicubic = filters < 0.5
        self.uniforms = [uniform] * (policy.magnitude_std == float("inf")) + [radius]

    def use(self, op):
        """Run one of timm's AugmentOps: it may ask first whether to apply, then for the sign."""
        self.randoms = [self.turns] if op.prob >= 1 else [self.decides, self.turns]
        return op

    def random(self):
        return self.randoms.pop(0)

    def gauss(self, mean, std):
        return float(mean + std * self.normal)

    def uniform(self, low, high):
        return float(low + (high - low) * self.uniforms.pop(0))

    def choice(self, pair):
        return pair[int(self.is_bicubic)]


def apply_ops(image, ops, policy, first, samples, monkeypatch):
    for position, op in enumerate(ops, first):
        numbers = TimmWithOurNumbers(policy, position, samples)
        monkeypatch.setattr(timm_augment, "random", numbers)
        image = numbers.use(op)(image)
    return image


def aa_params():
    """What timm's factory hands to its policies."""
    return {"translate_const": int(SIZE * 0.45), "img_mean": FILL}


@pytest.fixture
def old_posterize(monkeypatch):
    """timm as it was before Pillow 13, which refuses to keep 0 bits: the image is black."""

    def posterize(image, bits):
        lut = [value & ~(2 ** (8 - bits) - 1) for value in range(256)]
        return image.point(lut * 3)

    monkeypatch.setattr(timm_augment.ImageOps, "posterize", posterize)


@pytest.mark.parametrize(
    "text",
    [
        "rand-m9-mstd0.5-inc1",
        "rand-m10-n4-inc1-p1",
        "rand-m12-mmax30-mstd101-n3",
        "rand-m8-mstd2-n5-tweights",
        "rand-n3-mstd1-t3aw",
        "rand-t3a-n3",
        "original",
        "originalr-mstd1",
        "v0-mstd0.5",
        "v0r",
        "3a",
        "3a-mstd3",
    ],
)
def test_policies_make_timms_pictures(text, picture, old_posterize, monkeypatch):
    policy, draws = parse_policy(text), draws_of(text)
    factory = "rand_augment_transform" if text.startswith("rand") else "auto_augment_transform"
    transform = getattr(timm_augment, factory)(text, aa_params())
    chosen = _choices(policy, lambda stream, count: uniforms(stream, **KEY, count=count))
    changed = 0
    for i, sample in enumerate(KEY["samples"]):
        if text.startswith("rand"):
            ops = [transform.ops[index] for index in chosen[i]]
        else:
            (index,) = chosen[i]
            ops = transform.policy[index]
        expected = apply_ops(picture, ops, policy, 0, np.array([sample]), monkeypatch)
        ours = apply_draws(picture, draws, i, FILL)
        assert ours.tobytes() == expected.tobytes(), (text, i)
        changed += ours.tobytes() != picture.tobytes()
    assert changed > len(KEY["samples"]) / 4


@pytest.mark.parametrize("text", ["augmix-m5-w4-d2", "augmix-mstd1-a0.5", "augmix-b1", "augmix-d4"])
def test_augmix_makes_timms_pictures(text, picture, monkeypatch):
    policy, draws = parse_policy(text), draws_of(text)
    drawn = augmix_draws(policy, **KEY, size=SIZE, interpolation="random")
    params = aa_params() | {"translate_pct": 0.3}
    transform = timm_augment.augment_and_mix_transform(text, params)
    chosen = _choices(policy, lambda stream, count: uniforms(stream, **KEY, count=count))
    longest = policy.mixing.longest
    for i, sample in enumerate(KEY["samples"][:15]):
        depths = iter((drawn.chains.operations[i] != Operation.NONE).sum(axis=1))
        chains = iter(range(policy.mixing.width))

        def choice(ops, depth, replace, i=i, sample=sample, chains=chains):
            first = next(chains) * longest
            picked = [ops[index] for index in chosen[i, first : first + depth]]
            samples = np.array([sample])
            return [
                lambda image, op=op, at=at: apply_ops(image, [op], policy, at, samples, monkeypatch)
                for at, op in enumerate(picked, first)
            ]

        monkeypatch.setattr(np.random, "choice", choice)
        monkeypatch.setattr(np.random, "randint", lambda *_, depths=depths: next(depths))
        monkeypatch.setattr(np.random, "dirichlet", lambda _, i=i: drawn.weights[i])
        monkeypatch.setattr(np.random, "beta", lambda *_, i=i: drawn.shares[i])
        expected = transform(picture)
        assert apply_draws(picture, draws, i, FILL).tobytes() == expected.tobytes()


@pytest.mark.parametrize("magnitude", [*range(0, 31, 3), 1, 12])
@pytest.mark.parametrize("sign", [1, -1])
def test_torchvisions_operations_make_torchvisions_pictures(picture, magnitude, sign):
    space = tv.RandAugment(2, magnitude)._augmentation_space(31, (SIZE, SIZE))
    for name, (magnitudes, signed) in space.items():
        if name == "Identity":
            continue
        value = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
        value *= sign if signed else 1
        expected = _apply_op(picture, name, value, F.InterpolationMode.NEAREST, None)
        arg = torchvision_argument(Operation[name], magnitude, sign, SIZE)
        ours = apply_operation(picture, Operation[name], arg, Filter.NEAREST, (0, 0, 0))
        assert ours.tobytes() == expected.tobytes(), name


def test_torchvisions_policy_resamples_with_nearest_on_black():
    augmentation = ImageAugmentation(policy=parse_policy("tv-n3-m20"), mean=MEAN)
    chain = image_draws(augmentation, **KEY, size=SIZE).chain
    assert augmentation.fill == (0, 0, 0)
    assert not chain.filters.any()
    names = chain.operations[chain.operations > 0]
    signed = [{torchvision_argument(Operation(n), 20, s, SIZE) for s in (1, -1)} for n in names]
    for arg, allowed in zip(chain.args[chain.operations > 0], signed, strict=True):
        assert arg in allowed or (np.isnan(arg) and np.isnan(next(iter(allowed))))
    assert np.isnan(chain.args[chain.operations == 0]).all()


def test_jitter_grayscale_and_blur_make_torchvisions_pictures(picture):
    jitter = (0.4, 0.3, 0.6, 0.2)
    augmentation = ImageAugmentation(color_jitter=jitter, grayscale=0.5, gaussian_blur=0.5)
    draws = image_draws(augmentation, **KEY, size=SIZE)
    adjust = {
        Operation.Brightness: F.adjust_brightness,
        Operation.Contrast: F.adjust_contrast,
        Operation.Color: F.adjust_saturation,
        Operation.Hue: F.adjust_hue,
        Operation.Desaturate: lambda image, _: F.rgb_to_grayscale(image, num_output_channels=3),
        Operation.GaussianBlur23: lambda image, sigma: F.gaussian_blur(
            image, [23, 23], [sigma] * 2
        ),
    }
    kinds = set()
    for i in range(len(KEY["samples"])):
        expected = picture
        for code, arg in zip(draws.chain.operations[i], draws.chain.args[i], strict=True):
            if code:
                expected = adjust[Operation(code)](expected, arg)
                kinds.add(Operation(code))
        assert apply_draws(picture, draws, i, FILL).tobytes() == expected.tobytes()
    assert kinds == set(adjust)


def every_operation(count=6):
    """Draws of every operation at several arguments, (N, 1)."""
    rng = np.random.default_rng(1)
    operations = [op for op in Operation if op not in (0, Operation.GaussianBlurRand)]
    codes = np.repeat(np.array(operations, np.uint8), count)[:, None]
    magnitudes = rng.uniform(0, 10, codes.shape)
    args = arguments(codes, magnitudes, rng.random(codes.shape) < 0.5, translate_range(SIZE, 0.45))
    for code, low, high in ((Operation.Hue, -0.5, 0.5), (Operation.GaussianBlur23, 0.1, 2)):
        args = np.where(codes == code, rng.uniform(low, high, codes.shape), args)
    resampled = np.isin(codes, list(RESAMPLING))
    filters = np.where(resampled, rng.integers(0, 3, codes.shape), 0).astype(np.uint8)
    return OperationDraws(codes, args, filters)


def run_kernel(image, kernel, args, resample):
    """What a kernel means, in PIL's words."""
    enhance = {
        Kernel.BRIGHTNESS: "Brightness",
        Kernel.CONTRAST: "Contrast",
        Kernel.COLOR: "Color",
        Kernel.SHARPNESS: "Sharpness",
    }
    whole = {
        Kernel.AUTO_CONTRAST: lambda: timm_augment.ImageOps.autocontrast(image),
        Kernel.EQUALIZE: lambda: timm_augment.ImageOps.equalize(image),
        Kernel.INVERT: lambda: timm_augment.ImageOps.invert(image),
        Kernel.POSTERIZE: lambda: image.point(
            [v & ~(2 ** (8 - int(args[0])) - 1) for v in range(256)] * 3
        ),
        Kernel.SOLARIZE: lambda: timm_augment.ImageOps.solarize(image, args[0]),
        Kernel.SOLARIZE_ADD: lambda: image.point(
            [min(255, v + int(args[0])) if v < 128 else v for v in range(256)] * 3
        ),
        Kernel.AFFINE: lambda: image.transform(
            image.size, Image.Transform.AFFINE, tuple(args), PILLOW[resample], fillcolor=FILL
        ),
        Kernel.GRAYSCALE: lambda: image.convert("L").convert("RGB"),
        Kernel.GAUSSIAN_BLUR: lambda: image.filter(timm_augment.ImageFilter.GaussianBlur(args[0])),
        Kernel.HUE: lambda: F.adjust_hue(image, args[0]),
        Kernel.GAUSSIAN_BLUR_23: lambda: F.gaussian_blur(image, [23, 23], [args[0]] * 2),
        Kernel.NOTHING: lambda: image,
    }
    if kernel in enhance:
        return getattr(timm_augment.ImageEnhance, enhance[kernel])(image).enhance(args[0])
    return whole[kernel]()


def test_kernels_make_the_pictures_of_the_operations(picture):
    drawn = every_operation()
    calls = kernel_calls(drawn, SIZE)
    for i in range(len(drawn.operations)):
        operation, resample = Operation(drawn.operations[i, 0]), Filter(drawn.filters[i, 0])
        arg = float(drawn.args[i, 0])
        expected = apply_operation(picture, operation, arg, resample, FILL)
        ours = run_kernel(picture, Kernel(calls.codes[i, 0]), calls.args[i, 0].tolist(), resample)
        assert ours.tobytes() == expected.tobytes(), (operation.name, arg)
    assert set(calls.codes.ravel()) >= set(Kernel) - {Kernel.NOTHING, Kernel.GRAYSCALE}


@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 180.0, 360.0, 30.0, -17.123])
def test_rotations_are_pils_also_where_pil_has_a_shortcut(picture, degrees):
    drawn = OperationDraws(
        np.array([[Operation.Rotate]], np.uint8),
        np.array([[degrees]]),
        np.array([[Filter.BICUBIC]], np.uint8),
    )
    calls = kernel_calls(drawn, SIZE)
    ours = run_kernel(picture, Kernel(calls.codes[0, 0]), calls.args[0, 0].tolist(), Filter.BICUBIC)
    expected = picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=FILL)
    assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("bits", "kernel"), [(-3, 0), (0, 0), (1, 1), (7, 7)])
def test_posterize_of_no_bits_is_black_as_before_pillow_13(picture, bits, kernel):
    for name in ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"):
        ours = apply_operation(picture, Operation[name], float(bits), Filter.NEAREST, FILL)
        assert (np.asarray(ours).max() == 0) == (bits < 1)
        drawn = OperationDraws(
            np.array([[Operation[name]]], np.uint8),
            np.array([[float(bits)]]),
            np.zeros((1, 1), "u1"),
        )
        calls = kernel_calls(drawn, SIZE)
        assert calls.codes[0, 0] == Kernel.POSTERIZE
        assert calls.args[0, 0, 0] == kernel


def test_what_changes_nothing_is_no_kernel():
    operations = np.array([[Operation.PosterizeOriginal, Operation.Desaturate, 0]], np.uint8)
    drawn = OperationDraws(operations, np.array([[8.0, 1.0, np.nan]]), np.zeros((1, 3), np.uint8))
    calls = kernel_calls(drawn, SIZE)
    assert calls.codes.tolist() == [[Kernel.NOTHING, Kernel.GRAYSCALE, Kernel.NOTHING]]
    assert not np.isnan(calls.args).any()


def test_arguments_suit_timms_functions():
    assert argument_of(Operation.AutoContrast, np.nan) is None
    assert argument_of(Operation.SolarizeAdd, 99.0) == 99
    assert isinstance(argument_of(Operation.SolarizeAdd, 99.0), int)
    assert argument_of(Operation.Solarize, 246.5) == 246.5  # torchvision's may lie between
    assert isinstance(argument_of(Operation.Rotate, 3.0), float)


def test_nothing_is_drawn_from_global_state():
    def state():
        numbers = np.random.mtrand._rand.get_state()[1]
        return random.getstate(), numbers.tolist(), torch.get_rng_state().tolist()

    before = state()
    augmentation = ImageAugmentation(
        policy=parse_policy("rand-m9-mstd0.5-inc1"),
        color_jitter=(0.4, 0.4, 0.4, 0.1),
        gaussian_blur=0.5,
    )
    image_draws(augmentation, **KEY, size=SIZE)
    assert state() == before
