"""Train on a Ray cluster, with Ray Train's TorchTrainer.

    python cluster/ray_train.py --config configs/dynamixer_l.yaml [key.path=value ...]

Connects to the cluster at $RAY_ADDRESS or on this machine, or starts one here. Each worker of the
trainer starts `launch.py` as one rank, in a process of its own: Ray runs its training function in a
thread, where no signal arrives, and kills its workers when this command ends; ranks then save and
end by themselves. All nodes see the repository, its environment, the data and
`run.root` at the same paths. A run whose workers or nodes die is started again `--restarts` times
and goes on from its last checkpoint, which is `launch.py`'s, not one of Ray's; so does this command
when it is given again. Ends with the exit code of the run.
"""

import argparse
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
import yaml
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, str(ROOT / "launch.py")]
EXIT_FAILED, EXIT_BAD_INPUT = 1, 2


def main() -> int:
    """Run the recipe that the arguments name; returns the exit code."""
    options, arguments = _parse()
    # A mistake in the recipe is told before anything starts, and with its own code.
    printed = subprocess.run([*LAUNCH, "--print", *arguments], stdout=subprocess.PIPE, check=False)
    if printed.returncode != 0:
        return printed.returncode
    run = yaml.safe_load(printed.stdout)["run"]
    ray.init(log_to_driver=True)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    scaling = train.ScalingConfig(
        num_workers=options.workers or gpus or 1,
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": options.cpus_per_worker, "GPU": 1 if gpus else 0},
    )
    trainer = TorchTrainer(
        run_rank,
        train_loop_config={"arguments": arguments, "folder": str(Path.cwd())},
        # What the workers tell each other is not for the GPUs; the ranks have a group of their own.
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=scaling,
        run_config=train.RunConfig(
            name=run["name"],
            storage_path=str(Path(run["root"]).resolve() / ".ray"),
            failure_config=train.FailureConfig(max_failures=options.restarts),
        ),
    )
    try:
        code = trainer.fit().return_value
    except train.TrainingFailedError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_FAILED
    return EXIT_FAILED if code is None else code


def run_rank(config: dict[str, Any]) -> int:
    """Run this worker's rank to its end; returns 0, or 2 where the recipe or data are unusable.

    Raises:
        RuntimeError: if a rank ended with anything but 0 or 2; Ray then starts all of them again.
    """
    code = subprocess.run(
        [*LAUNCH, *config["arguments"]],
        cwd=config["folder"],
        env={**os.environ, **_world()},
        check=False,
    ).returncode
    codes: list[int | None] = [None] * dist.get_world_size()
    dist.all_gather_object(codes, code)
    if EXIT_BAD_INPUT in codes:  # would be found again
        return EXIT_BAD_INPUT
    if any(codes):
        raise RuntimeError(f"the ranks ended with {codes}; their own messages say why")
    return 0


def _world() -> dict[str, str]:
    """What torch.distributed reads; Ray Train has set it, but has a group at its port already."""
    port = [None]
    if dist.get_rank() == 0:
        with closing(socket.socket()) as probe:
            probe.bind(("", 0))
            port = [probe.getsockname()[1]]
    dist.broadcast_object_list(port, src=0)
    return {"MASTER_PORT": str(port[0]), "MILLSTREAM_OUTLIVE": "ray"}


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=0, help="ranks; by default one for each GPU")
    parser.add_argument("--cpus-per-worker", type=float, default=1, help="cores of a rank")
    parser.add_argument("--restarts", type=int, default=3, help="how often ranks are started again")
    return parser.parse_known_args()


if __name__ == "__main__":
    sys.exit(main())
