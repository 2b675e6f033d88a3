"""What ``POST /predict`` answers; the OpenAPI document is made from these."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Score(BaseModel):
    """A class with its probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class Neighbour(BaseModel):
    """One of the user's own examples that is close to an image."""

    example: str = Field(description="Its file, below the folder of examples.")
    label: str = Field(description="The class that its folder says.")
    similarity: float = Field(description="Cosine of the two images' features; 1 is the same image.", ge=-1, le=1)
    picture: str = Field(description="Where on this server it can be seen.")


class Prediction(BaseModel):
    """An image that was classified."""

    image: str = Field(description="File name, as it was sent.")
    label: str = Field(description="The class with the highest probability.")
    probability: float = Field(ge=0, le=1)
    top: list[Score] = Field(description="The best classes, best first; all of them unless top= asks for fewer.")
    novelty: float | None = Field(
        description="How unlike the client's training images it is, 1 on average for those; null if the prompt file "
        "does not know what they are like."
    )
    unlike_training: bool | None = Field(
        description="Whether the novelty is above the prompt's threshold, so that the label means little."
    )
    neighbours: list[Neighbour] = Field(description="The closest examples, closest first; none without a folder.")
    picture: str | None = Field(description="With picture=true, a data URI of the PNG that the model saw.")
    warning: str | None = Field(description="How grey values of more than 8 bits were read, where that needs a word.")


class Failure(BaseModel):
    """A file that was not classified."""

    image: str = Field(description="File name, as it was sent.")
    error: str = Field(description="What is wrong with it.")


class Answer(BaseModel):
    """Answers to all images of a request, in the order in which they were sent."""

    client: str = Field(description="Whose prompt it is.")
    prior: str = Field(description="own: classes are expected as often as the client has them; uniform: all alike.")
    novelty_threshold: float | None = Field(description="Above it, an image is unlike the client's; null if unknown.")
    images: list[Prediction | Failure]


class Refusal(BaseModel):
    """A request that was not answered at all."""

    error: str = Field(description="What is wrong, and what to do.")
