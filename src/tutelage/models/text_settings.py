"""How texts are read: what a recipe says about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pydantic import Field, field_validator

from tutelage.errors import ModelError
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess, PairPreprocess, Preprocess, TextPreprocess
from tutelage.models.templates import template_of
from tutelage.runtime.texts import TEXT_PAIR, Side, filled
from tutelage.settings import Settings


class TextSettings(Settings):
    """How student and teachers read texts.

    Attributes:
        template: Words around every text, with ``{text}`` where it goes and ``{text_pair}`` for a pair's second part;
            or the name of one of the prompts of :data:`tutelage.models.templates.TEMPLATES`. The text alone if not
            given.
        student_length: Most tokens that the student reads, special ones and the template's counted; what is longer is
            cut. Its model's own (128, or fewer if it cannot read so many) if not given.
        teacher_length: The same for teachers.
        truncation: Side on which long texts are cut. The template's words always stay.
    """

    template: str | None = None
    student_length: int | None = Field(default=None, ge=1)
    teacher_length: int | None = Field(default=None, ge=1)
    truncation: Side = "right"

    @field_validator("template")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            template_of(value)
        return value

    def check(self, texts: Iterable[str]) -> None:
        """Check that raw texts fit the template.

        Raises:
            DataError: It asks for pairs, and a text is none.
        """
        template = None if self.template is None else template_of(self.template)
        if template is not None and TEXT_PAIR in template:
            for text in texts:
                filled(template, text)

    def read(self, preprocess: Preprocess, *, teaches: bool, name: str) -> Preprocess:
        """Return a model's preprocess as it reads texts here; one of images alone stays as it is.

        Args:
            preprocess: The model's.
            teaches: Whether it is a teacher.
            name: The model's, for errors.

        Raises:
            ModelError: The model cannot read so many tokens, or the template leaves no room for a text, or is for a
                model whose texts have no template.
        """
        if isinstance(preprocess, ImagePreprocess):
            return preprocess
        if isinstance(preprocess, PairPreprocess):
            text = self.read(preprocess.text, teaches=teaches, name=name)
            assert isinstance(text, TextPreprocess | ClipTextPreprocess)
            return replace(preprocess, text=text)
        key = "teacher_length" if teaches else "student_length"
        length = (self.teacher_length if teaches else self.student_length) or preprocess.length
        if isinstance(preprocess, ClipTextPreprocess):
            return self._clip(preprocess, length, f"text.{key}: {name}")
        if preprocess.limit is not None and length > preprocess.limit:
            raise ModelError(f"text.{key}: {name} reads at most {preprocess.limit} tokens, not {length}")
        template = preprocess.template if self.template is None else template_of(self.template)
        found = replace(preprocess, length=length, template=template, truncation=self.truncation)
        try:
            found.check()
        except ModelError as error:
            raise ModelError(f"text.{key}: {name}: {error}") from error
        return found

    def _clip(self, preprocess: ClipTextPreprocess, length: int, where: str) -> ClipTextPreprocess:
        if length != preprocess.length:
            raise ModelError(f"{where} reads {preprocess.length} tokens, a CLIP model's own number; leave it out")
        if self.template is not None or self.truncation != "right":
            raise ModelError(
                f"{where} is a CLIP model's tower of texts, which reads them without a template and cuts them on the "
                "right; leave text.template and text.truncation out"
            )
        return preprocess
