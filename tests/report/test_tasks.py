from __future__ import annotations

import pytest
import torch

from tutelage.report.tasks import METRICS, TASKS, named_metric
from tutelage.tasks import TASKS as LEARNED

MADE = {
    "classification": (torch.eye(3), torch.arange(3)),
    "segmentation": (torch.ones(2, 3, 3, dtype=torch.int64), torch.empty(2, 0)),
}


@pytest.mark.parametrize("task", LEARNED)
def test_every_task_is_spoken_of(task: str) -> None:
    assert TASKS[task].primary == LEARNED[task].primary
    assert TASKS[task].dense == (LEARNED[task].stride is not None)


@pytest.mark.parametrize("task", LEARNED)
def test_what_is_shown_is_measured_and_all_of_it_has_a_name(task: str) -> None:
    measured = LEARNED[task].metrics(*MADE[task])
    assert set(measured) == {TASKS[task].primary, *TASKS[task].others}
    assert set(TASKS[task].judged) <= set(measured) <= set(METRICS)


def test_a_metric_that_nobody_named_goes_by_its_key() -> None:
    assert (named_metric("balanced_accuracy").name, named_metric("miou").name) == ("balanced accuracy", "mean IoU")
