"""Prompt templates: Jinja files here, each replaceable by one of the same name in PROMPTS_DIR."""

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from jobs.errors import SettingsError

_OURS = Path(__file__).parent


class Prompts:
    """Renders templates by name, sandboxed: a template reads what it is given and nothing else."""

    def __init__(self, replacements: Path | None = None) -> None:
        places = [replacements, _OURS] if replacements else [_OURS]
        self._environment = SandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(place) for place in places]),
            keep_trailing_newline=False,
            autoescape=False,
        )
        for name in self._environment.list_templates(extensions=["j2"]):
            try:
                self._environment.get_template(name)
            except TemplateError as error:
                raise SettingsError({"PROMPTS_DIR": f"{name}: {error}"}) from None

    def render(self, name: str, **values: Any) -> str:
        """The prompt `name` filled in."""
        return self._environment.get_template(f"{name}.j2").render(**values).strip()
