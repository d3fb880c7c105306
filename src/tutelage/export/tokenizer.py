"""The tokenizer of a model of texts: files beside it that Tutelage's runtime and transformers can open."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.errors import RunError
from tutelage.models.preprocess import ClipTextPreprocess, PairPreprocess, Preprocess, TextPreprocess, clip_tokenizer
from tutelage.models.tokenizers import transformers_tokenizer
from tutelage.run import write_whole

FOLDER = "tokenizer"
"""Where it lies, beside the model."""

UNCURLED = {"[\u2018-\u201b\u02bc]": "'", "[\u201c-\u201f]": '"', "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl"}
"""What CLIP's cleaning writes plainly: quotation marks and ligatures."""


def write_tokenizer(folder: Path, preprocess: Preprocess) -> None:
    """Write the tokenizer of a model of texts into ``folder/tokenizer``; nothing for a model of images.

    Raises:
        ModelError: The tokenizer cannot be had.
        RunError: A file cannot be written.
    """
    texts = preprocess.text if isinstance(preprocess, PairPreprocess) else preprocess
    if isinstance(texts, TextPreprocess):
        files = _of_transformers(texts.tokenizer)
    elif isinstance(texts, ClipTextPreprocess):
        files = _of_clip(texts.model)
    else:
        return
    target = folder / FOLDER
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{target}: cannot be made ({error.strerror}); choose another place") from error
    for name, content in files.items():
        write_whole(target / name, content)


def beside(preprocess: Preprocess) -> Preprocess:
    """Return a preprocess that names the tokenizer where :func:`write_tokenizer` writes it."""
    if isinstance(preprocess, PairPreprocess):
        texts = beside(preprocess.text)
        assert isinstance(texts, TextPreprocess | ClipTextPreprocess)
        return replace(preprocess, text=texts)
    return replace(preprocess, tokenizer=FOLDER) if isinstance(preprocess, TextPreprocess) else preprocess


def in_one_form(preprocess: Preprocess) -> Preprocess:
    """Return a preprocess as exported files say it: CLIP's tokenizer is written as any other is."""
    if isinstance(preprocess, PairPreprocess):
        texts = in_one_form(preprocess.text)
        assert isinstance(texts, TextPreprocess | ClipTextPreprocess)
        return replace(preprocess, text=texts)
    if isinstance(preprocess, ClipTextPreprocess):
        return TextPreprocess(FOLDER, length=preprocess.length)
    return beside(preprocess)


def _of_transformers(name: str) -> dict[str, bytes]:
    """Return the files of a tokenizer, by name, without what it came from on this machine."""
    with tempfile.TemporaryDirectory(prefix="tutelage-tokenizer-") as scratch:
        transformers_tokenizer(name).save_pretrained(scratch)
        files = {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir()) if path.is_file()}
    settings = json.loads(files["tokenizer_config.json"])
    settings = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    return {**files, "tokenizer_config.json": _plain(settings)}


def _of_clip(model: str) -> dict[str, bytes]:
    """Return the same for a tokenizer of open_clip, which has no files.

    Of its cleaning this form does what can be said in rules; text that was decoded wrongly, or that holds HTML, it
    leaves as it is.
    """
    theirs = clip_tokenizer(model)
    if not hasattr(theirs, "bpe_ranks"):
        # A tokenizer of transformers that open_clip wraps.
        return _of_transformers(theirs.tokenizer.name_or_path)
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    start, end = theirs.sot_token_id, theirs.eot_token_id
    names = {number: name for name, number in theirs.encoder.items()}
    ours = Tokenizer(
        models.BPE(
            theirs.encoder, list(theirs.bpe_ranks), end_of_word_suffix="</w>", unk_token=names[end], fuse_unk=False
        )
    )
    plain = [normalizers.Replace(Regex(curled), straight) for curled, straight in UNCURLED.items()]
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    ours.normalizer = normalizers.Sequence([*plain, normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = Regex(theirs.pat.pattern)
    ours.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ours.post_processor = processors.TemplateProcessing(
        single=f"{names[start]} $A {names[end]}",
        pair=f"{names[start]} $A $B {names[end]}",
        special_tokens=[(names[start], start), (names[end], end)],
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[start],
        "eos_token": names[end],
        "pad_token": names[0],
        "model_max_length": theirs.context_length,
    }
    return {"tokenizer.json": ours.to_str().encode(), "tokenizer_config.json": _plain(settings)}


def _plain(settings: dict[str, Any]) -> bytes:
    return f"{json.dumps(settings, indent=2, ensure_ascii=False)}\n".encode()
