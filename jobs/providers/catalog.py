"""Which provider answers for which model: LLM_BASE_URL, PROVIDERS_FILE, or the offline one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs.errors import AttemptError, SettingsError, TaskError
from jobs.pools import pool_of
from jobs.providers.base import Provider
from jobs.providers.offline import OfflineProvider
from jobs.providers.openai import OpenAIProvider
from jobs.settings import Settings, provider_secret

_LIMITS = ("max_in_flight", "requests_per_minute", "tokens_per_minute")


class _Endpoint(Schema):
    base_url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    models = fields.List(fields.String(validate=validate.Length(1)), required=True, validate=validate.Length(1))
    max_in_flight = fields.Integer(strict=True, validate=validate.Range(1))
    requests_per_minute = fields.Integer(strict=True, validate=validate.Range(1))
    tokens_per_minute = fields.Integer(strict=True, validate=validate.Range(1))
    api_key = fields.String()
    api_key_env = fields.String()

    @validates_schema
    def _one_key(self, data: dict[str, Any], **_: Any) -> None:
        if "api_key" in data and "api_key_env" in data:
            raise ValidationError("give api_key or api_key_env, not both", "api_key")
        if "api_key_env" in data and not provider_secret(data["api_key_env"]):
            raise ValidationError("that environment variable is not set", "api_key_env")


class Catalog:
    """The configured providers."""

    def __init__(self, by_model: dict[str, Provider], default: Provider | None) -> None:
        self._by_model = by_model
        self._default = default

    def provider_for(self, model: str) -> Provider:
        """The provider that serves `model`.

        Raises:
            AttemptError: unknown_model, when endpoints are configured but none serves it.
        """
        provider = self._by_model.get(model, self._default)
        if provider is None:
            raise AttemptError(TaskError("unknown_model", f"No configured provider serves the model {model!r}."))
        return provider

    async def aclose(self) -> None:
        """Close all providers."""
        for provider in {id(p): p for p in (*self._by_model.values(), self._default) if p}.values():
            await provider.aclose()


def build(settings: Settings) -> Catalog:
    """The catalog that the settings describe. Call it where an event loop runs.

    Raises:
        SettingsError: PROVIDERS_FILE is not as it should be.
    """
    by_model: dict[str, Provider] = {}
    for name, endpoint in (read_file(settings.providers_file) if settings.providers_file else {}).items():
        provider = OpenAIProvider(name, endpoint["base_url"], _key_of(endpoint))
        by_model |= dict.fromkeys(endpoint["models"], provider)
    default: Provider | None = None
    if settings.llm_base_url:
        default = OpenAIProvider("default", settings.llm_base_url, settings.llm_api_key)
    elif not by_model:
        default = OfflineProvider()
    return Catalog(by_model, default)


def keys(settings: Settings) -> list[str]:
    """The keys in PROVIDERS_FILE, for redaction; raises like `build`."""
    endpoints = read_file(settings.providers_file) if settings.providers_file else {}
    return [key for endpoint in endpoints.values() if (key := _key_of(endpoint))]


def rules(settings: Settings) -> dict[str, dict[str, int]]:
    """The limits in PROVIDERS_FILE, by the pool of each model that has any; raises like `build`."""
    endpoints = read_file(settings.providers_file) if settings.providers_file else {}
    return {
        pool_of("coroutine", model): limits
        for endpoint in endpoints.values()
        if (limits := {name: endpoint[name] for name in _LIMITS if name in endpoint})
        for model in endpoint["models"]
    }


def _key_of(endpoint: Mapping[str, Any]) -> str | None:
    return endpoint.get("api_key") or provider_secret(endpoint.get("api_key_env", ""))


def read_file(path: Path) -> dict[str, dict[str, Any]]:
    """The endpoints in a PROVIDERS_FILE, by name: tables `[providers.NAME]`.

    Raises:
        SettingsError: every problem found, under PROVIDERS_FILE.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError({"PROVIDERS_FILE": f"{path}: {error}"}) from None
    tables = document.pop("providers", {})
    problems = [f"unknown key {key!r}" for key in document]
    found: dict[str, dict[str, Any]] = {}
    owner: dict[str, str] = {}
    for name, table in tables.items() if isinstance(tables, dict) else ():
        try:
            found[name] = dict(_Endpoint().load(table))
        except ValidationError as error:
            problems.append(f"providers.{name}: {error.messages}")
            continue
        problems += [
            f"model {model!r} is served by both {owner[model]} and {name}"
            for model in found[name]["models"]
            if owner.setdefault(model, name) != name
        ]
    if not found and not problems:
        problems.append("has no [providers.NAME] table")
    if problems:
        raise SettingsError({"PROVIDERS_FILE": f"{path}: {'; '.join(problems)}"})
    return found
