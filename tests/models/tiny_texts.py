"""Text models of many families that take milliseconds, saved as transformers does, with a small tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tests.models.tiny_clips import save_tokenizer

WORDS = ("red", "green", "blue", "square", "circle")
VOCABULARY = 4 + len(WORDS)

_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
_DECODER = {**_BERT, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
_MODERN = {**_BERT, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _BERT),
    "roberta": ("Roberta", {**_BERT, "bos_token_id": 2, "eos_token_id": 3}),
    "electra": ("Electra", {**_BERT, "embedding_size": 8}),
    "deberta": ("DebertaV2", {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "distilbert": (
        "DistilBert",
        {
            "vocab_size": VOCABULARY,
            "dim": 16,
            "n_layers": 4,
            "n_heads": 2,
            "hidden_dim": 32,
            "max_position_embeddings": 40,
        },
    ),
    "modernbert": ("ModernBert", _MODERN),
    "gpt2": (
        "GPT2",
        {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 40}
        | {"bos_token_id": 3, "eos_token_id": 3},
    ),
    "llama": ("Llama", _DECODER),
    "qwen2": ("Qwen2", _DECODER),
    "t5": (
        "T5",
        {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 4, "num_decoder_layers": 2}
        | {"num_heads": 2, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 3},
    ),
    "bart": (
        "Bart",
        {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 4, "decoder_layers": 2}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        | {"max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        | {"decoder_start_token_id": 3, "forced_eos_token_id": 3},
    ),
    "albert": ("Albert", {**_BERT, "embedding_size": 8}),
}
"""Classes of transformers and their configurations, of four layers each, by a name for tests."""


def save_family(name: str, folder: Path) -> str:
    """Save a model of a family with random weights; returns its name."""
    kind, options = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{kind}Model")(config).eval().save_pretrained(folder)
    save_tokenizer(folder, WORDS)
    return f"hf:{folder}"
