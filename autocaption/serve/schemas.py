"""What requests ask for and what answers hold, as OpenAPI documents it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from autocaption.inference.named_search import search_names

MOST_CAPTIONS = 10
SEARCHES = search_names()


def _known(search: str) -> str:
    if search not in SEARCHES:
        raise ValueError(f"there is none of this name; take {', '.join(SEARCHES)}")
    return search


Search = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [*SEARCHES]})]


class Settings(BaseModel):
    """How to caption a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: Annotated[int, Field(ge=1, le=MOST_CAPTIONS, description="How many captions.")] = 5
    search: Annotated[Search, Field(description="How captions are searched for; greedy finds one.")] = "beam"
    temperature: Annotated[
        float | None,
        Field(
            ge=0.05,
            le=5,
            allow_inf_nan=False,
            description="With search=sample: below 1, likely words are likelier still.",
        ),
    ] = None
    attention: Annotated[
        bool, Field(description="Whether to tell where the model looked for each word, if it attends.")
    ] = False

    @model_validator(mode="after")
    def _fits_its_search(self) -> "Settings":
        if self.temperature is not None and self.search != "sample":
            raise ValueError("temperature goes with search=sample; leave it out")
        return self


class JsonRequest(Settings):
    """A request in JSON."""

    image: Annotated[str, Field(min_length=1, description="The picture's file, in base64.")]


class CaptionOut(BaseModel):
    """One caption."""

    caption: str
    score: Annotated[float, Field(description="What captions are ordered by, the highest first.")]
    probability: Annotated[float, Field(ge=0, le=1, description="Of these words, given the picture.")]


class AttentionOut(BaseModel):
    """Where the model looked for each word of one caption."""

    words: list[str]
    rows: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    weights: Annotated[
        list[list[float]], Field(description="For each word a weight a place, row by row; they sum to 1.")
    ]
    seen: Annotated[
        tuple[float, float, float, float],
        Field(
            description="The part of the picture that the places cover: left, top, right and bottom, as "
            "shares of its width and height."
        ),
    ]


class Answer(BaseModel):
    """The captions of a picture, the best one first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "captions": [
                    {"caption": "a red circle is above a blue square", "score": -1.2, "probability": 0.3}
                ],
                "attention": None,
            }
        }
    )

    captions: list[CaptionOut]
    attention: Annotated[
        list[AttentionOut] | None,
        Field(description="One a caption; null where it was not asked for or the model doesn't attend."),
    ] = None


class Health(BaseModel):
    """That the service is up, and what it takes."""

    status: Literal["ok"] = "ok"
    attends: Annotated[bool, Field(description="Whether the model can tell where it looks.")]
    max_bytes: int
    max_pixels: int
    in_work: Annotated[int, Field(description="Requests that are being answered.")]
    places: Annotated[int, Field(description="Requests that may be in work at a time.")]
