"""What the analyses have in common: long material is analysed part by part, and the parts' analyses are merged."""

from dataclasses import dataclass
from typing import Any

import orjson
from marshmallow import Schema, validate

from jobs import structured
from jobs.fields import StrictInteger
from jobs.handlers.context import Context
from jobs.splitting import PART_CHARS, groups, split


class AnalysisInput(Schema):
    """What every analysis may be told."""

    part_chars = StrictInteger(
        validate=validate.Range(1000, 1_000_000),
        metadata={
            "description": f"Longer material is cut at paragraphs into parts of at most so many characters "
            f"({PART_CHARS}): what the model can read at once."
        },
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """An analysis: the name of its template, the schema of its answers, and an example of one."""

    template: str
    answer: type[Schema]
    example: dict[str, Any]


async def analyse(context: Context, kind: Kind, text: str, **facts: Any) -> dict[str, Any]:
    """The analysis of a text by the task's model, with `parts`: in how many it was read.

    Args:
        facts: further values for the template.

    Raises:
        AttemptError: as `structured.ask`.
    """

    async def ask(**values: Any) -> dict[str, Any]:
        prompt = context.prompts.render(kind.template, **values, **facts)
        return await structured.ask(context, prompt, kind.answer(), kind.example)

    size = context.input.get("part_chars", PART_CHARS)
    parts = split(text, size)
    done: list[dict[str, Any]] = []
    for number, part in enumerate(parts, start=1):
        context.progress(100 * len(done) / (len(parts) + 1), f"part {number} of {len(parts)}")
        done.append(await ask(material=part, part=number, parts=len(parts), merging=False))
    while len(done) > 1:
        context.progress(100 * len(parts) / (len(parts) + 1), f"merging {len(done)} parts")
        grouped = groups([orjson.dumps(analysis).decode() for analysis in done], size)
        done = [
            await ask(material="\n\n".join(group), merging=True) if len(group) > 1 else orjson.loads(group[0])
            for group in grouped
        ]
    return {**done[0], "parts": len(parts)}
