"""What memory banks add to a comparison's predicted cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.methods.tiny_jobs import tiny_job, tiny_run

from tutelage.comparison.bank_speed import BANKS, TIMED, bank_share, bank_turn
from tutelage.comparison.forecast import stage_cost
from tutelage.comparison.speeds import Speeds, StepSpeed, measure_speeds
from tutelage.comparison.table import Spent
from tutelage.comparison.timed import Models, Use
from tutelage.ledger import counted
from tutelage.methods.lessons import LESSONS

CPU = torch.device("cpu")


@pytest.mark.parametrize(("widths", "sides", "width"), [({"features": 7}, 2, 768), ({"embedding": 24}, 1, 24)])
def test_a_turn_compares_with_every_row_forward_and_back(widths: dict[str, int], sides: int, width: int) -> None:
    flops = counted(bank_turn(widths, 4, CPU))[1]
    assert flops == sides * 2 * (2 * 4 * TIMED * width)


def test_the_share_is_that_of_the_rows_that_are_met(tmp_path: Path) -> None:
    assert bank_share(tiny_job(tmp_path, "agnostic-image", transfer=12), 4) == 12 / TIMED


def test_predicted_flops_are_about_those_that_are_spent(tmp_path: Path) -> None:
    how = {"transfer": 200, "distill__targets": "live", "distill__batch_size": 40}
    job = tiny_job(tmp_path / "planned", "agnostic-image", **how)
    speeds = measure_speeds(job, {"image": LESSONS["image"]}, teacher=True, adapted=False)
    spent = tiny_run(tmp_path / "run", "agnostic-image", **how)["distill"].cost["flops"]
    # The teacher's passes left out, half of the work is the banks'.
    teacher = 2 * 200 * speeds.passes["teacher"].flops
    assert stage_cost("distill", job, speeds).flops - teacher == pytest.approx(spent - teacher, rel=0.1)


@pytest.mark.parametrize(("method", "known"), [("agnostic-image", False), ("agnostic-patch", True)])
def test_speeds_without_banks_do_not_do_for_a_method_with_them(method: str, known: bool) -> None:
    use = Use(Models(["a"], "student", {}), (method,))
    speeds = measured("student", "image", "patches")
    assert use.known(speeds) == known
    assert use.known(measured("student", "image", "patches", BANKS))


def measured(*steps: str) -> Speeds:
    spent = Spent(1.0, 1.0)
    training = {name: StepSpeed(1.0, 1.0, 1.0) for name in steps}
    return Speeds(spent, spent, {"student": spent, "teacher": spent}, dict.fromkeys(steps, spent), training)
