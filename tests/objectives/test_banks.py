"""Banks on disk go back to the last checkpoint, whenever they are left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tutelage.errors import RunError
from tutelage.objectives.banks import Bank, DiskBank, MemoryBank, remove_banks

SIZE, WIDTH = 6, 3
EVERY = torch.arange(SIZE)


def on_disk(folder: Path, size: int = SIZE) -> DiskBank:
    return DiskBank(folder, "some", size, WIDTH)


def in_memory(folder: Path) -> MemoryBank:
    return MemoryBank(SIZE, WIDTH, torch.float16, torch.device("cpu"))


def numbers(count: int, seed: int) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def written(bank: Bank, *steps: tuple[list[int], int]) -> Tensor:
    """Write some rows in each step; returns all rows then."""
    for rows, seed in steps:
        bank.write(torch.tensor(rows), numbers(len(rows), seed))
    return bank.read(EVERY).clone()


banks = pytest.mark.parametrize("bank", [in_memory, on_disk])


@banks
def test_a_bank_is_empty_at_first(tmp_path: Path, bank) -> None:
    assert torch.equal(bank(tmp_path).read(EVERY), torch.zeros(SIZE, WIDTH))


@banks
def test_what_is_written_is_read_in_half_precision(tmp_path: Path, bank) -> None:
    found = written(bank(tmp_path), ([4, 1], 0), ([1, 5], 1))
    expected = torch.zeros(SIZE, WIDTH)
    expected[[4, 1]] = numbers(2, 0).half().float()
    expected[[1, 5]] = numbers(2, 1).half().float()
    assert torch.equal(found, expected)


@banks
def test_rows_are_read_in_the_order_asked_for(tmp_path: Path, bank) -> None:
    made = bank(tmp_path)
    every = written(made, ([4, 1], 0))
    assert torch.equal(made.read(torch.tensor([1, 0, 4])), every[[1, 0, 4]])


def test_a_bank_in_memory_is_in_its_state(tmp_path: Path) -> None:
    first, second = in_memory(tmp_path), in_memory(tmp_path)
    kept = written(first, ([4, 1], 0))
    second.restore(first.state(), 1)
    written(first, ([4], 1))  # does not reach the other
    assert torch.equal(second.read(EVERY), kept)


def left(folder: Path) -> Tensor:
    """Leave a bank after a checkpoint at 2 updates and two more of them; returns its rows at the checkpoint."""
    bank = on_disk(folder)
    kept = written(bank, ([0, 1, 2], 0), ([2, 3], 1))
    bank.checkpointed(2)
    written(bank, ([1, 5], 2), ([5, 2], 3))
    return kept


def test_a_bank_goes_back_to_its_checkpoint(tmp_path: Path) -> None:
    kept = left(tmp_path)
    bank = on_disk(tmp_path)
    assert bank.state() is None
    bank.restore(None, 2)
    assert torch.equal(bank.read(EVERY), kept)


def test_a_bank_goes_back_as_often_as_it_is_left(tmp_path: Path) -> None:
    kept = left(tmp_path)
    for seed in (4, 5):
        bank = on_disk(tmp_path)
        bank.restore(None, 2)
        written(bank, ([seed, 1], seed))
    bank.restore(None, 2)
    assert torch.equal(bank.read(EVERY), kept)


def test_a_bank_that_is_left_between_a_checkpoint_and_hearing_of_it_stays_as_it_is(tmp_path: Path) -> None:
    left(tmp_path)
    last = written(on_disk_restored(tmp_path), ([0, 4], 6))
    bank = on_disk(tmp_path)
    bank.restore(None, 3)  # the checkpoint has seen one more update than the journal's
    assert torch.equal(bank.read(EVERY), last)


def on_disk_restored(folder: Path) -> DiskBank:
    bank = on_disk(folder)
    bank.restore(None, 2)
    return bank


def test_a_bank_goes_back_though_its_journal_was_cut_short(tmp_path: Path) -> None:
    # A row is overwritten once its entry is whole: what is cut short stands for a row that was not.
    kept = left(tmp_path)
    with (tmp_path / "some.bank.before-2").open("ab") as journal:
        journal.write(b"\x03\0\0\0\0\0\0\0\xff")
    assert torch.equal(on_disk_restored(tmp_path).read(EVERY), kept)


def test_only_the_last_checkpoint_has_a_journal(tmp_path: Path) -> None:
    bank = on_disk(tmp_path)
    for updates in (1, 2, 3):
        written(bank, ([updates], updates))
        bank.checkpointed(updates)
    assert {path.name for path in tmp_path.iterdir()} == {"some.bank", "some.bank.before-3"}


def test_a_new_bank_is_empty_whatever_lies_there(tmp_path: Path) -> None:
    left(tmp_path)
    assert torch.equal(on_disk(tmp_path).read(EVERY), torch.zeros(SIZE, WIDTH))


def test_a_bank_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"some\.bank: .* is gone, or of other samples; remove .* checkpoint"):
        on_disk(tmp_path).restore(None, 2)


def test_a_bank_of_other_samples_is_refused(tmp_path: Path) -> None:
    left(tmp_path)
    with pytest.raises(RunError, match="of other samples"):
        on_disk(tmp_path, SIZE + 1).restore(None, 2)
    with pytest.raises(RunError, match="of other samples"):
        in_memory(tmp_path).restore(torch.zeros(SIZE + 1, WIDTH), 2)


def test_a_full_disk_is_told_before_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"some\.bank: .* \(No space left on device\); free space, or"):
        on_disk(tmp_path).read(EVERY)


def test_files_of_banks_are_removed_and_no_others(tmp_path: Path) -> None:
    left(tmp_path)
    (tmp_path / "bank.json").touch()
    remove_banks(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.json"]
