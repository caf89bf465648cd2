"""From prepared pictures and settings to answers: the part of the service that knows the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from autocaption.errors import UserError
from autocaption.serve.refusals import RequestError
from autocaption.serve.schemas import Answer, AttentionOut, CaptionOut, Settings


class Model(Protocol):
    """What the service needs of autocaption.api.CaptionModel."""

    def prepare(self, image: bytes, name: str | None = None, max_pixels: int | None = None) -> Any:
        """A picture's file as the encoder takes it, in any thread."""
        ...

    def caption(
        self, images: Sequence[Any], k: int, search: str | None, batch_size: int, **settings: Any
    ) -> Sequence[list[Any]]:
        """The k best captions of each prepared picture."""
        ...

    def attention(self, image: Any, caption: list[Any]) -> Sequence[Any]:
        """Where the decoder looked for each word of these captions; UserError where it doesn't attend."""
        ...


@dataclass(frozen=True)
class Picture:
    """A picture that waits for its captions.

    Attributes:
        prepared: what the model's `prepare` gave.
        attention: whether to tell where the model looks.
    """

    prepared: Any
    attention: bool


class Captioning:
    """Captions batches of pictures.

    Args:
        model: the model.
        sample: a picture's file that it is tried on, so that the first request finds it warm.

    Attributes:
        attends: whether the model can tell where it looks.
    """

    def __init__(self, model: Model, sample: bytes) -> None:
        self.model = model
        prepared = model.prepare(sample, "sample")
        (captions,) = model.caption([prepared], k=1, search=None, batch_size=1)
        try:
            model.attention(prepared, captions)
            self.attends = True
        except UserError:
            self.attends = False

    def __call__(self, pictures: Sequence[Picture], settings: Settings) -> list[Answer]:
        """An answer for each picture, which all have the same settings.

        Raises:
            RequestError: the search refuses the settings.
        """
        asked = {} if settings.temperature is None else {"temperature": settings.temperature}
        k = 1 if settings.search == "greedy" else settings.k
        prepared = [picture.prepared for picture in pictures]
        try:
            found = self.model.caption(
                prepared, k=k, search=settings.search, batch_size=len(prepared), **asked
            )
        except UserError as error:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_setting", str(error)) from None
        return [self._answer(*one) for one in zip(pictures, found, strict=True)]

    def _answer(self, picture: Picture, captions: list[Any]) -> Answer:
        attention = None
        if picture.attention and self.attends:
            attention = [_attention(one) for one in self.model.attention(picture.prepared, captions)]
        return Answer(
            captions=[
                CaptionOut(caption=one.text, score=one.score, probability=one.probability) for one in captions
            ],
            attention=attention,
        )


def _attention(found: Any) -> AttentionOut:
    words, rows, columns = found.maps.shape
    weights = found.maps.astype(float).reshape(words, rows * columns).round(5).tolist()
    return AttentionOut(words=found.words, rows=rows, columns=columns, weights=weights, seen=found.seen)
