"""Readers: from the name of some data, as a user writes it, to Samples."""

from tutelage.data.readers.builtin import PATIENCE, TORCHVISION
from tutelage.data.readers.kinds import READERS, Reader, check_data, read_samples
from tutelage.data.readers.rows import Part

__all__ = ["PATIENCE", "READERS", "TORCHVISION", "Part", "Reader", "check_data", "read_samples"]
