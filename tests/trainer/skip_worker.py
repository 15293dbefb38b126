"""Run on ranks by test_skip.py: gradients that are not finite on one rank; print JSON."""

import json
import sys

import torch
import torch.distributed as dist

from tests.trainer.zero_state_worker import make, train
from trainer.engine.gather import gather_state
from trainer.engine.process_group import init_process_group
from trainer.process.world import bootstrap


def check(stage: int) -> dict[str, object]:
    """One sound step, two with a NaN in one gradient of the last rank, one sound step."""
    engine, ema = make(stage, "fp32", "adamw")
    train(engine, ema, range(1))
    before = gather_state(engine)
    poisoned = next(engine.module.parameters())
    on_last = dist.get_rank() == dist.get_world_size() - 1
    hook = poisoned.register_hook(lambda g: g * float("nan") if on_last else g)
    log = train(engine, ema, range(1, 3))
    skipped = engine.skipped_in_row
    hook.remove()
    during = gather_state(engine)
    train(engine, ema, range(3, 4))
    after = gather_state(engine)
    if before is None or during is None or after is None:
        return {}
    return {
        "losses_were_finite": all(loss == loss for loss, _ in log),
        "norms": [norm for _, norm in log],
        "skipped": skipped,
        "skipped_in_the_end": engine.skipped_in_row,
        "weights_stayed": all(torch.equal(before.model[n], during.model[n]) for n in before.model),
        "moments_stayed": before.optimizer_step == during.optimizer_step
        and all(
            torch.equal(before.moments[key][n], during.moments[key][n])
            for key in before.moments
            for n in before.moments[key]
        ),
        "went_on": not torch.equal(*(next(iter(s.model.values())) for s in (during, after))),
        "not_finite": after.not_finite(),
    }


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    results = {stage: check(int(stage)) for stage in sys.argv[1]}
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


main()
