"""Tasks: head, supervised loss, metrics and target format of each kind of problem."""

from tutelage.tasks.classification import Classification
from tutelage.tasks.segmentation import Segmentation
from tutelage.tasks.task import Task

TASKS: dict[str, Task] = {"classification": Classification(), "segmentation": Segmentation()}

__all__ = ["TASKS", "Classification", "Segmentation", "Task"]
