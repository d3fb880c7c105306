"""Training on texts by the loop, against the bare student on batches that lie ready.

    python benchmarks/text_step.py                # the table in docs/performance.md
    python benchmarks/text_step.py --json         # one JSON object on stdout

The student is `text:tiny` with random weights and a new head for 16 classes: the smaller it is, the more weighs all
else, so that the comparison is a strict one. The texts are made here, the same ones each time: words of the
tokenizer's own vocabulary, drawn as often as Zipf's law has it, as many a text as descriptions of packages have, a
few dozen to some hundreds. `--data` takes a table of real ones (columns text and label) in their place.

Ours is all that a run does in a step: the loader picks rows of about equal length, pads their tokens, which were made
once, and hands them over; forward, loss, backward, the norm of the gradient, optimizer, moving average. The bare
student has the same batches as tensors in memory, on its device, and is nothing but forward, cross entropy, backward
and AdamW, written out. Both start alike. They are taken in turns, some steps each, the same batches for both.

The lower 95 % bound of the ratio of texts a second is to be at least 0.9. The second comparison, without a goal, says
what the loop costs besides the loader: our step on batches that lie ready, too.

Keys of the JSON: ``ratio`` (of texts a second, ours over the reference), ``reference``, ``runs`` (pairs), ``spread``,
``bound``, ``confidence``, ``goal`` and ``met`` are those of the first of ``comparisons``; ``comparisons`` has the
same keys for each, and ``ours``; ``rows`` has for each ``case`` its ``texts_per_second`` (median) and ``std``;
``tokens`` (of a text, on average) and ``padded`` (share of a batch that is padding); ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from case import SEED, stepper
from side_by_side import command, compare, in_turns, machine, seconds, show
from torch import Tensor, nn

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.readers import read_samples
from tutelage.data.samples import Samples
from tutelage.models import Model, build_encoder
from tutelage.models.preprocess import TextPreprocess
from tutelage.models.tokenizers import tokenizer
from tutelage.models.tokens import TextInputs, Tokens
from tutelage.objectives import Supervised
from tutelage.tasks import TASKS
from tutelage.training.distributed import World, world
from tutelage.training.phase import Phase
from tutelage.training.precision import precision
from tutelage.training.schedule import Schedule
from tutelage.views.policy import POLICIES

STUDENT = "text:tiny"
TEXTS = 8000
CLASSES = 16
BATCH = 32
RATE = 1e-4
GOAL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=8, help="taken in one turn")
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--batch", type=int, default=BATCH, help="texts a step")
    parser.add_argument("--data", help="a table of labeled texts; made if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    total = told.steps * (told.pairs + 1)
    model = new_student(told.student)
    preprocess = model.encoder.preprocess
    assert isinstance(preprocess, TextPreprocess)
    samples = made_texts(preprocess) if told.data is None else read_samples(told.data, labeled=True, modality="text")
    loader = Loader(
        samples,
        {DEFAULT_GROUP: ViewGroup(POLICIES["none"], 0)},
        batch_size=told.batch,
        seed=SEED,
        inline=not torch.cuda.is_available(),
    )
    schedule = Schedule(steps=2 * total, batch_size=told.batch, learning_rate=RATE)
    phase = Phase("labels", loader, {"supervised": (Supervised(TASKS["classification"]), 1.0)}, schedule)
    with world(told.device) as here:
        batches = list(loader.batches(0, total))
        tokens = tokens_of(batches, preprocess)
        ready = [
            (
                {name: value.to(here.device) for name, value in tokens.of(rows_of(batch)).items()},
                targets_of(batch, here),
            )
            for batch in batches
        ]
        lying = [batch.to(here.device) for batch in batches]
        ours, again = (stepper(phase, copy.deepcopy(model), here) for _ in range(2))
        bare = Bare(copy.deepcopy(model), here)
        source = loader.ready(loader.batches(0, total))
        cases: dict[str, Callable[[], object]] = {
            "the loop": partial(some, told.steps, (partial(_whole, ours, here, batch) for batch in source)),
            "the loop, batches at hand": partial(some, told.steps, (partial(again, batch) for batch in lying)),
            "the bare student": partial(some, told.steps, (partial(bare, *each) for each in ready)),
        }
        found = in_turns(cases, told.pairs, seconds)
        source.close()
        device = str(here.device)
    texts = told.steps * told.batch
    rates = {name: [texts / each for each in times] for name, times in found.items()}
    bare_rates = rates["the bare student"]
    comparisons = [
        {"ours": name, **compare(rates[name], bare_rates, reference="the bare student", side="at_least", goal=goal)}
        for name, goal in (("the loop", GOAL), ("the loop, batches at hand", None))
    ]
    shapes = [tokens["input_ids"].shape for tokens, _ in ready]
    real = sum(int(tokens["attention_mask"].sum()) for tokens, _ in ready)
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "comparisons": comparisons,
        "rows": [
            {"case": name, "texts_per_second": statistics.median(each), "std": statistics.stdev(each)}
            for name, each in rates.items()
        ],
        "tokens": real / sum(rows for rows, _ in shapes),
        "padded": 1 - real / sum(rows * length for rows, length in shapes),
        "machine": machine(device),
        "command": command(),
    }
    show(result, told.json)


def new_student(name: str) -> Model:
    """Build the student at random weights."""
    torch.manual_seed(SEED)
    encoder = build_encoder(name, pretrained=False)
    return Model(encoder, TASKS["classification"].head(encoder.widths, CLASSES))


def made_texts(preprocess: TextPreprocess) -> Samples:
    """Return labeled texts of a tokenizer's own words."""
    vocabulary = tokenizer(preprocess.tokenizer)[0].get_vocab()
    words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 1)
    draw = np.random.default_rng(SEED)
    lengths = np.clip(draw.lognormal(3.9, 0.75, TEXTS), 4, 400).astype(np.int64)
    odds = 1 / np.arange(1, len(words) + 1)
    order = draw.permutation(len(words))
    drawn = draw.choice(order, int(lengths.sum()), p=odds / odds.sum())
    parts = np.split(drawn, np.cumsum(lengths)[:-1])
    texts = [" ".join(words[word] for word in part) for part in parts]
    return Samples(
        ids=tuple(f"{number:06}" for number in range(TEXTS)),
        images=None,
        texts=texts,
        targets=np.arange(TEXTS, dtype=np.int64) % CLASSES,
        classes=tuple(f"class_{number}" for number in range(CLASSES)),
        origin="made",
    )


class Bare:
    """The student and nothing else: forward, cross entropy, backward, AdamW."""

    def __init__(self, model: Model, here: World) -> None:
        self.model = model.to(here.device).train()
        self.device = here.device
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)

    def __call__(self, tokens: dict[str, Tensor], targets: Tensor) -> None:
        """Take a step."""
        with precision(self.device):
            features = self.model.encoder.encode(tokens, frozenset({"features"})).require("features")
            loss = nn.functional.cross_entropy(self.model.head(features), targets)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def some(count: int, steps: Iterator[Callable[[], object]]) -> None:
    """Take the next so many steps."""
    for step in itertools.islice(steps, count):
        step()


def _whole(step: Callable[[Batch], object], here: World, batch: Batch) -> None:
    step(batch.to(here.device))


def rows_of(batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return which texts a batch has."""
    inputs = batch.inputs[DEFAULT_GROUP]
    assert isinstance(inputs, TextInputs)
    return inputs.rows


def tokens_of(batches: list[Batch], preprocess: TextPreprocess) -> Tokens:
    """Return the tokens of all texts, made now if they are not there, so that no step waits for them."""
    inputs = batches[0].inputs[DEFAULT_GROUP]
    assert isinstance(inputs, TextInputs)
    return inputs.corpus.tokens(preprocess)


def targets_of(batch: Batch, here: World) -> Tensor:
    """Return the labels of a batch."""
    assert batch.targets is not None
    return batch.targets.to(here.device)


if __name__ == "__main__":
    main()
