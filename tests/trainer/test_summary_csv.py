"""summary.csv: what becomes of a log, also of one that was cut and went on."""

import json

from trainer.events import Evaluated
from trainer.record.summary_csv import SummaryCsv, table


def step(epoch: int, loss: float | None, lr: float = 0.1) -> str:
    return json.dumps({"event": "step", "step": 1, "epoch": epoch, "loss": loss, "lr": lr})


def score(epoch: int, top1: float, *, ema: bool = False) -> str:
    event = {"event": "eval", "step": 1, "epoch": epoch, "top1": top1, "top5": 90.0, "ema": ema}
    event["loss"] = 1.5
    return json.dumps(event)


def test_an_epoch_is_a_row_with_the_mean_loss_and_the_last_score():
    log = [step(0, 2.0), step(0, None), step(0, 4.0, lr=0.2), score(0, 10.0), score(0, 11.0)]
    assert table("\n".join(log)) == (
        "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n0,3.0,1.5,11.0,90.0,0.2\n"
    )


def test_epochs_that_were_not_evaluated_have_no_row_and_a_torn_line_none():
    log = [step(0, 2.0), step(1, 4.0), score(1, 10.0), '{"event": "eval", "st']
    assert table("\n".join(log)).splitlines()[1:] == ["1,4.0,1.5,10.0,90.0,0.1"]


def test_after_a_log_was_cut_and_went_on_each_row_is_there_once(tmp_path):
    metrics, path = tmp_path / "metrics.jsonl", tmp_path / "summary.csv"
    sink = SummaryCsv(path, metrics)
    event = Evaluated(step=1, epoch=0, top1=1.0, top5=2.0, count=3, ema=False)
    metrics.write_text("\n".join([step(0, 2.0), score(0, 10.0), step(1, 1.0), score(1, 20.0)]))
    sink(event)
    metrics.write_text("\n".join([step(0, 2.0), score(0, 10.0), step(1, 1.0), score(1, 21.0)]))
    sink(event)
    assert [row.split(",")[:4] for row in path.read_text().splitlines()[1:]] == [
        ["0", "2.0", "1.5", "10.0"],
        ["1", "1.0", "1.5", "21.0"],
    ]
