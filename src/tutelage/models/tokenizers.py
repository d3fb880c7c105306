"""Tokenizers of transformers' models, opened once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError
from tutelage.runtime.texts import padding_token


@lru_cache(maxsize=8)
def transformers_tokenizer(name: str) -> Any:
    """Return transformers' own tokenizer of a folder, of a repository on the hub, or of a bundled model.

    Raises:
        ModelError: It cannot be had.
    """
    from transformers import AutoTokenizer

    from tutelage.models.sources import bundled_models, hub

    path = str(bundled_models.text_folder(name)) if name.startswith("bundled:") else name
    with hub.failures(name, path):
        local = Path(path).is_dir() or hub.cache_only(name, path)
        try:
            return AutoTokenizer.from_pretrained(path, local_files_only=local)
        # A folder without the files of a tokenizer ends in whatever the first thing to miss them raises.
        except (AttributeError, KeyError, TypeError, ImportError) as error:
            raise ModelError(f"{name}: no tokenizer that can be read ({error}); save one beside the model") from error


@lru_cache(maxsize=8)
def tokenizer(name: str) -> tuple[Any, int]:
    """Return a ``tokenizers.Tokenizer`` that neither pads nor truncates, and the number of its token for padding.

    Args:
        name: A folder, a repository on the hub, or ``bundled:NAME``.

    Raises:
        ModelError: It cannot be had, or it is one of those that are slow: written in Python.
    """
    import tokenizers

    theirs = transformers_tokenizer(name)
    backend = getattr(theirs, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise ModelError(
            f"{name}: its tokenizer ({type(theirs).__name__}) has no fast form, and that is needed; save the model "
            "with a tokenizer.json"
        )
    if backend.get_vocab_size() <= len(theirs.all_special_ids):
        # What transformers makes up where there are no files.
        raise ModelError(f"{name}: no tokenizer there that knows a word; save one beside the model")
    # A copy: transformers changes its own with every call.
    ours = tokenizers.Tokenizer.from_str(backend.to_str())
    ours.no_padding()
    ours.no_truncation()
    return ours, padding_token(ours, theirs.pad_token, theirs.eos_token)
