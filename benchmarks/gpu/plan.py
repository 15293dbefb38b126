"""What is measured on a GPU, in the order of worth: its time is short, and may end any moment.

First whether it runs and is right, then what decides most: the kernels, the model we are about, the
step, the pipeline, both together; then the other families, and what takes long.
"""

from typing import NamedTuple

from benchmarks.gpu.model_runs import FAMILIES, FIRST, LARGE, WHOLE


class Part(NamedTuple):
    """One process of an experiment.

    Attributes:
        name: of the part.
        module: of `benchmarks.gpu`; its raw results are MODULE.json.
        only: its cases on a GPU; empty: all.
        limit_s: seconds after which it is told to stop; what it lacks is for the next start.
        on_cpu: whether it is tried out on a CPU, too.
        needs: the folder within `--data` without which it is left out.
    """

    name: str
    module: str
    only: tuple[str, ...] = ()
    limit_s: int = 540
    on_cpu: bool = True
    needs: str = ""


PARTS = (
    Part("first contact", "first_contact", limit_s=150),
    Part("fused kernels", "kernel_speed", limit_s=210),
    Part("decoders agree", "decode_parity", limit_s=120),
    Part("batches arrive whole", "stream_stress", limit_s=90),
    Part("DynaMixer-S", "model_speed", tuple(FIRST), limit_s=400),
    Part("training step", "train_step", limit_s=240),
    Part("pipeline", "pipeline_speed", limit_s=180),
    Part("end to end", "end_to_end", limit_s=300),
    Part("other families", "model_speed", tuple(FAMILIES), on_cpu=False),
    Part("engine state", "engine_state", limit_s=150),
    Part("large models", "model_speed", tuple(LARGE), on_cpu=False),
    Part("whole graphs", "model_speed", tuple(WHOLE), on_cpu=False),
    Part("CIFAR-10", "cifar", needs="cifar10"),
)
