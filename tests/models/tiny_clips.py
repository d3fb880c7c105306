"""A CLIP model whose towers take milliseconds, known to open_clip with weights under a tag; and a small tokenizer."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import open_clip
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

WIDTH, LENGTH = 6, 12
"""Of the space that images and texts share, and of texts in tokens."""

CLIP = "openclip:tiny-clip/mine"
RANDOM = "openclip:tiny-clip"
"""The same without its weights."""


@functools.cache
def tiny_clip(scale: float = 20.0) -> str:
    """Make the model known, once; returns its name."""
    folder = Path(_folder().name)
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": LENGTH, "vocab_size": 49_408, "width": 8, "heads": 2, "layers": 1}
    (folder / "tiny-clip.json").write_text(json.dumps({"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-clip").eval()
    model.logit_scale.data.fill_(scale).log_()
    save_file(model.state_dict(), folder / "tiny-clip.safetensors")
    open_clip.pretrained._PRETRAINED["tiny-clip"] = {
        "mine": {
            "file": str(folder / "tiny-clip.safetensors"),
            "mean": (0.1, 0.2, 0.3),
            "std": (0.4, 0.5, 0.6),
            "interpolation": "bilinear",
        }
    }
    return CLIP


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tiny-clip-")


def save_tokenizer(folder: Path, words: Sequence[str]) -> Path:
    """Write a tokenizer of BERT's kind that knows some words, each of them a token."""
    known = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **marks).save_pretrained(folder)
    return folder
