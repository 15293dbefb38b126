"""Which optimizers there are, by timm's names, and what each takes; known without importing timm.

ZeRO hands an optimizer flat pieces of many weights at once. One whose update of an element depends
on that element alone does not notice; one that looks at a whole weight (its norm, its rows, its
singular values, or, in the cautious variants, the share of agreeing signs) would silently compute
something else, and is refused above stage 0. tests/trainer/test_optim.py holds this table to what
timm's optimizers do. Left out: what needs CUDA libraries of its own (bnb*, fused*), closures
(adahessian) or keeps lists as its state (kron*).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What an optimizer takes and needs."""

    num_betas: int
    has_eps: bool
    has_momentum: bool
    whole: bool
    """Whether it looks at whole weights, which only ZeRO stage 0 leaves."""


_ELEMENTWISE = {
    "betas2 eps": "adabelief adam adamax adamc adamw adamwlegacy adopt adoptc adoptw laprop lapropc"
    " nadam nadamc nadamlegacy nadamw radabelief radam radamlegacy radamw",
    "betas3 eps": "adan adanw",
    "betas2": "lion lionc",
    "eps": "adadelta adagrad",
    "eps momentum": "madgrad madgradw rmsprop rmsproptf rmsproptfc rmsproptfw",
    "momentum": "momentum nesterov nesterovw sgd sgdc sgdw",
}
_WHOLE = {
    "betas2 eps": "adafactor adamp cadafactor cadamc cadamp cadamw cadopt cadoptc cadoptw clamb"
    " clambw claprop cmars cnadamc cnadamw lamb lambc lambcd lambcw lambw mars novograd novogradc"
    " novogradw",
    "betas2 eps momentum": "adamuon muon nadamuon nmuon",
    "betas3 eps": "cadan cadanw",
    "betas2": "clion clionc",
    "eps momentum": "adafactorbv adafactorbvc cadafactorbv cadafactorbvc crmsproptf csgdp larc lars"
    " nlarc nlars sgdp",
    "momentum": "csgdc csgdw",
}

OPTIMIZERS = {
    name: Traits(
        num_betas=next((int(word[-1]) for word in takes.split() if "betas" in word), 0),
        has_eps="eps" in takes.split(),
        has_momentum="momentum" in takes.split(),
        whole=whole,
    )
    for table, whole in ((_ELEMENTWISE, False), (_WHOLE, True))
    for takes, names in table.items()
    for name in names.split()
}
