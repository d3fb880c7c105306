"""Prompts that make a question of a text, for models that were trained to go on writing."""

from __future__ import annotations

from tutelage.errors import UnknownNameError
from tutelage.runtime.texts import TEXT, check_template

TEMPLATES: dict[str, str] = {
    "imdb": "{text} Overall, the sentiment of my review is",
    "boolq": "Question: {text}\nReference: {text_pair}\nAnswer:",
    "mnli": "Premise: {text}\nHypothesis: {text_pair}\nDoes the premise entail the hypothesis? Answer:",
    "sst2": 'Review: "{text}"\nSentiment:',
    "mrpc": "Sentence 1: {text}\nSentence 2: {text_pair}\nIs Sentence 1 equivalent to Sentence 2? Answer:",
    "qqp": "Question 1: {text}\nQuestion 2: {text_pair}\nAre Question 1 and Question 2 equivalent? Answer:",
    "qnli": "Question: {text}\nSentence: {text_pair}\nDoes the sentence answer the question? Answer:",
    "rte": "Sentence 1: {text}\nSentence 2: {text_pair}\nDoes Sentence 1 entail Sentence 2? Answer:",
}
"""The prompts of Qiu et al. (2024), appendix A.2. Blanks after line breaks and at the ends, which the page shows, are
taken for its typesetting: to a tokenizer of bytes a blank at the end is a token of its own, which no text holds."""


def template_of(name: str) -> str:
    """Return the template that a recipe's ``text.template`` stands for: one of :data:`TEMPLATES`, or itself.

    Raises:
        UnknownNameError: It is neither.
        ModelError: It has several places for the text.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if TEXT not in name:
        raise UnknownNameError("template", name, TEMPLATES, f"(text.template; or write one that holds {TEXT})")
    check_template(name)
    return name
