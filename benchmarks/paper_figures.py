"""What papers, READMEs and slides say of the models in the zoo, and why ours may differ.

Nothing here was measured by us. FLOPs are the source's own count, usually multiply-adds.
"""

from typing import NamedTuple


class Reported(NamedTuple):
    """One model's reported figures, as the source prints them; "" where it gives none."""

    parameters: str = ""
    flops: str = ""
    top1: str = ""
    notes: tuple[str, ...] = ()


NOTES = {
    "cut": "The source cuts decimals instead of rounding them.",
    "rounded": "The source rounds 19.4 to 20.",
    "nano": "Not of the paper: a small one for 32-pixel images.",
    "vip_s7": "Its authors' log: best epoch 81.518, last 81.498. An early README says 81.6.",
    "vip_m7": "Its authors' log: best epoch 82.746, last 82.682. A comment in their code says "
    "55,534,632 parameters, which their code does not have.",
    "vip_l7": "Its authors' log: best epoch 83.204, last 83.076.",
    "amixer": "The paper's table was not available to us, and the authors' repository reports "
    "nothing.",
    "amixer_file": "The authors' file of the windowed form does not run as released; counts are of "
    "the form with its call-site faults repaired.",
    "convmixer": 'timm\'s model. Tools that skip convolutions with "same" padding, as fvcore does, '
    "count less. timm's own evaluation: 1536/20 81.382, 768/32 80.158, 1024/20 76.944.",
    "relu": "With ReLU, which the released ConvMixer-768/32 needs; the others have GELU.",
    "unpublished": "Defined in the authors' code; no figure of it was published.",
    "notebook": "Only in a notebook of the authors; no figure of it was published.",
    "thop": "The README's FLOPs are thop's, which adds four for each element that goes through "
    "BatchNorm, and the pooling, to the multiply-adds.",
    "cifar100": "Parameters and FLOPs are with 10 classes. With 100 the code has 617,316, 298,964, "
    "198,500, 198,500 and 330,596 parameters as ConvMixer and as I to IV; the README gives 0.62, "
    "0.30, 0.19, 0.19 and 0.32 million, and 152.6 (as with 10), 71.9, 46.2, 79.8 and 79.8 million "
    "FLOPs.",
    "flowers102": "Parameters and FLOPs are with Food-101's 101 classes. With Flowers-102's 102 "
    "the code has 257 parameters more.",
    "shared": "III shares its weights between segments, not its work: IV costs as much.",
    "lvvit": "Trained with token labels. The source's own counter, which adds normalisation and "
    "softmax and leaves the classifiers out, gives T 2.867, S 6.572, M 12.738 and L 34.776 G.",
    "lvvit_larger": "At more pixels: S 84.4 at 384; M 85.4 at 384 and 85.5 at 448; L 86.2 at 448 "
    "and 86.4 at 512, and nothing at 224.",
    "gfnet": "Our count has no transforms and no filters, which are no products in the paper.",
    "eamlp": "As in the Vision Permutator README, which names no variant; these are those of 30M "
    "and 55M parameters.",
    "eamlp_7": "At 384 pixels, the one run whose log was released.",
    "fixed": "Counted with the positional embedding, which does not learn.",
    "after": "After the paper; counts fit, authors' code not published.",
    "unverified": "The paper's figures, from a second hand; its table was not available to us.",
    "accuracy": "The accuracy is from a second hand; the paper's table was not available to us.",
    "slides": "As in the comparison table of the DynaMixer slides, which do not say how FLOPs were "
    "counted.",
    "mixer": "77.3 in a second row of the slides; 78.5 in the Vision Permutator README.",
    "resmlp_big": "The slides' B24 has patches of 16 pixels; timm's has patches of 8, hence more "
    "tokens, more parameters and four times the work.",
    "b3": "At the slides' 300 pixels; timm's own configuration has 288.",
    "more": "The source has 0.1 G more than the products that we count, and does not say of what.",
    "smlpnet_b": "83.3 in the slides, 83.4 in the authors' repository.",
}

_CIFAR = ("thop", "cifar100")
_FOOD = ("thop", "flowers102")

REPORTED = {
    "dynamixer_s": Reported("26M", "7.3G", "82.7"),
    "dynamixer_m": Reported("57M", "17.0G", "83.7"),
    "dynamixer_l": Reported("97M", "27.4G", "84.3", ("cut",)),
    "dynamixer_nano": Reported(notes=("nano",)),
    "vip_s14": Reported("30M", "6.9G", "80.7"),
    "vip_s7": Reported("25M", "6.9G", "81.5", ("vip_s7",)),
    "vip_m7": Reported("55M", "16.3G", "82.7", ("vip_m7",)),
    "vip_l7": Reported("88M", "24.4G", "83.2", ("vip_l7",)),
    "amixer_deit_s": Reported(notes=("amixer",)),
    "amixer_t": Reported(notes=("amixer", "amixer_file")),
    "amixer_s": Reported(notes=("amixer", "amixer_file")),
    "amixer_b": Reported(notes=("amixer", "amixer_file")),
    "splitmixer_1536_20": Reported(notes=("unpublished",)),
    "splitmixer_768_32": Reported(notes=("unpublished", "relu")),
    "splitmixer_1024_20_ks9_p14": Reported(notes=("unpublished",)),
    "convmixer_256_8": Reported("0.60M", "152.6M", "94.17 (CIFAR-10), 73.92 (CIFAR-100)", _CIFAR),
    "splitmixer_i_256_8": Reported("0.28M", "71.8M", "93.91 (CIFAR-10), 72.88 (CIFAR-100)", _CIFAR),
    "splitmixer_ii_256_8": Reported(
        "0.17M", "46.2M", "92.25 (CIFAR-10), 70.44 (CIFAR-100)", _CIFAR
    ),
    "splitmixer_iii_256_8": Reported(
        "0.17M", "79.8M", "92.52 (CIFAR-10), 70.89 (CIFAR-100)", (*_CIFAR, "shared")
    ),
    "splitmixer_iv_256_8": Reported(
        "0.31M", "79.8M", "93.38 (CIFAR-10), 71.75 (CIFAR-100)", (*_CIFAR, "shared")
    ),
    "splitmixer_v_256_8": Reported(notes=("unpublished",)),
    "convmixer_256_8_ks7_p7": Reported(
        "0.70M", "696M", "74.59 (Food-101), 60.47 (Flowers-102)", _FOOD
    ),
    "splitmixer_i_256_8_ks7_p7": Reported(
        "0.34M", "331M", "73.56 (Food-101), 62.03 (Flowers-102)", _FOOD
    ),
    "splitmixer_ii_256_8_ks7_p7": Reported(
        "0.24M", "229M", "71.74 (Food-101), 59.33 (Flowers-102)", _FOOD
    ),
    "splitmixer_iii_256_8_ks7_p7": Reported(
        "0.24M", "363M", "72.78 (Food-101), 59.00 (Flowers-102)", _FOOD
    ),
    "splitmixer_iv_256_8_ks7_p7": Reported(
        "0.37M", "363M", "72.92 (Food-101), 61.51 (Flowers-102)", _FOOD
    ),
    "splitmixer_v_256_8_ks7_p7": Reported(notes=("unpublished",)),
    "stridemixer_i_256_8": Reported(notes=("notebook",)),
    "stridemixer_iii_256_8": Reported(notes=("notebook",)),
    "lvvit_t": Reported("8.53M", "", "79.1", ("lvvit",)),
    "lvvit_s": Reported("26.15M", "", "83.3", ("lvvit", "lvvit_larger")),
    "lvvit_m": Reported("55.83M", "", "84.0", ("lvvit", "lvvit_larger")),
    "lvvit_l": Reported(notes=("lvvit", "lvvit_larger")),
    "gfnet_ti": Reported("7M", "1.3G", "74.6", ("gfnet",)),
    "gfnet_xs": Reported("16M", "2.8G", "78.6", ("gfnet",)),
    "gfnet_s": Reported("25M", "4.5G", "80.0", ("gfnet",)),
    "gfnet_b": Reported("43M", "7.9G", "80.7", ("gfnet",)),
    "gfnet_h_ti": Reported("15M", "2.0G", "80.1", ("gfnet",)),
    "gfnet_h_s": Reported("32M", "4.5G", "81.5", ("gfnet",)),
    "gfnet_h_b": Reported("54M", "8.4G", "82.9", ("gfnet",)),
    "convmlp_s": Reported("9.0M", "2.4G", "76.8"),
    "convmlp_m": Reported("17.4M", "3.9G", "79.0"),
    "convmlp_l": Reported("42.7M", "9.9G", "80.2"),
    "eamlp_7": Reported("", "", "71.7", ("eamlp_7", "fixed")),
    "eamlp_14": Reported("30M", "", "78.9", ("eamlp", "fixed")),
    "eamlp_19": Reported("55M", "", "79.4", ("eamlp", "fixed")),
    "eamlp_24": Reported(notes=("unpublished", "fixed")),
    "cyclemlp_b1": Reported("15M", "2.1G", "78.9"),
    "cyclemlp_b2": Reported("27M", "3.9G", "81.6"),
    "cyclemlp_b3": Reported("38M", "6.9G", "82.4", ("more",)),
    "cyclemlp_b4": Reported("52M", "10.1G", "83.0", ("more",)),
    "cyclemlp_b5": Reported("76M", "12.3G", "83.2", ("more",)),
    "cyclemlp_t": Reported("28M", "4.4G", "81.3", ("after",)),
    "cyclemlp_s": Reported("50M", "8.5G", "82.9", ("after",)),
    "cyclemlp_b": Reported("88M", "15.2G", "83.4", ("after",)),
    "hire_mlp_tiny": Reported("18M", "2.1G", "79.7"),
    "hire_mlp_small": Reported("33M", "4.2G", "82.1"),
    "hire_mlp_base": Reported("58M", "8.1G", "83.2"),
    "hire_mlp_large": Reported("96M", "13.4G", "83.8"),
    "as_mlp_tiny": Reported("28M", "4.4G", "81.3"),
    "as_mlp_small": Reported("50M", "8.5G", "83.1"),
    "as_mlp_base": Reported("88M", "15.2G", "83.3", ("more",)),
    "smlpnet_tiny": Reported("24M", "5.0G", "81.9"),
    "smlpnet_small": Reported("49M", "10.3G", "83.1"),
    "smlpnet_base": Reported("66M", "14.0G", "83.4", ("smlpnet_b",)),
    "raftmlp_s": Reported("9.9M", "2.1G", "76.1", ("unverified",)),
    "raftmlp_m": Reported("21.4M", "4.3G", "78.8", ("unverified",)),
    "raftmlp_l": Reported("36.2M", "6.5G", "79.4", ("unverified",)),
    "raftmlp_12": Reported("58M", "12.0G", "78.0", ("unverified",)),
    "raftmlp_36": Reported("44M", "9.0G", "76.9", ("unverified",)),
    "s2_mlpv2_small_7": Reported("25M", "6.9G", "82.0", ("after", "accuracy")),
    "s2_mlpv2_medium_7": Reported("55M", "16.3G", "83.6", ("after",)),
    "convmixer_1536_20": Reported("51.6M", "", "81.37", ("convmixer",)),
    "convmixer_768_32": Reported("21.1M", "", "80.16", ("convmixer", "relu")),
    "convmixer_1024_20_ks9_p14": Reported("24.4M", "", "76.94", ("convmixer",)),
    "mixer_s32_224": Reported(),
    "mixer_s16_224": Reported(),
    "mixer_b32_224": Reported(),
    "mixer_b16_224": Reported("59M", "12.7G", "76.4", ("slides", "cut", "mixer")),
    "mixer_l32_224": Reported(),
    "mixer_l16_224": Reported(),
    "resmlp_12_224": Reported("15M", "3.0G", "76.6", ("slides",)),
    "resmlp_24_224": Reported("30M", "6.0G", "79.4", ("slides",)),
    "resmlp_36_224": Reported(),
    "resmlp_big_24_224": Reported("116M", "23.0G", "81.0", ("slides", "resmlp_big")),
    "gmlp_ti16_224": Reported("6M", "1.4G", "72.3", ("slides",)),
    "gmlp_s16_224": Reported("20M", "4.5G", "79.6", ("slides", "rounded")),
    "gmlp_b16_224": Reported("73M", "15.8G", "81.6", ("slides",)),
    "resnet18": Reported("12M", "1.8G", "69.8", ("slides",)),
    "resnet50": Reported("26M", "4.1G", "78.5", ("slides",)),
    "resnet101": Reported("45M", "7.9G", "79.8", ("slides", "more")),
    "efficientnet_b3": Reported("12M", "1.8G", "81.6", ("slides", "b3")),
    "regnety_040": Reported("21M", "4.0G", "80.0", ("slides",)),
    "regnety_080": Reported("39M", "8.0G", "81.7", ("slides",)),
    "deit_small_patch16_224": Reported("22M", "4.6G", "79.8", ("slides",)),
    "deit_base_patch16_224": Reported("86M", "17.5G", "81.8", ("slides", "cut")),
    "deit_base_patch16_384": Reported("86M", "55.4G", "83.1", ("slides", "cut")),
    "swin_tiny_patch4_window7_224": Reported("29M", "4.5G", "81.3", ("slides",)),
    "swin_small_patch4_window7_224": Reported("50M", "8.7G", "83.0", ("slides",)),
    "swin_base_patch4_window7_224": Reported("88M", "15.4G", "83.3", ("slides",)),
}

PIXELS = {"efficientnet_b3": 300}
"""Sides of the images that the figures are for, where timm's configuration has others."""

PUBLISHED_SPEED = {
    "resmlp_24_224": "680, 715",
    "resmlp_big_24_224": "215, 231",
    "vip_s7": "719",
    "vip_m7": "390, 418",
    "vip_l7": "276, 298",
    "dynamixer_s": "551",
    "dynamixer_m": "326",
    "eamlp_14": "711",
    "eamlp_19": "464",
}
"""Images a second in the slides, or in the Vision Permutator README, which gives the greater."""
