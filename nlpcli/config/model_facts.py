"""Optional entries of a model's description besides its settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field


class ModelFacts(BaseModel):
    """Optional entries of a model's description besides its settings, with their types."""

    source_tokenizer: str | None = None
    head: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    columns: dict[str, Any] | None = None
    layout: dict[str, Any] | None = None
    parts: dict[str, Any] | None = None
    decoding: dict[str, Any] | None = None
    alignment: dict[str, Any] | None = None
    metrics: dict[str, Annotated[float, Field(strict=True)]] | None = None
    signatures: dict[str, str] | None = None
    trained: dict[str, Any] | None = None
    step: Annotated[int, Field(ge=0)] | None = None
    context: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    eval_streams: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_length: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    document_end: bool | None = None
    source_start: list[int] | None = None
    text_start: list[int] | None = None
    target_start: list[int] | None = None
    read_from: str | None = None
    pooling: str | None = None
