"""Which provider answers for which model: LLM_BASE_URL, PROVIDERS_FILE, or the offline one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs.errors import AttemptError, SettingsError, TaskError
from jobs.pools import pool_of
from jobs.prices import Price, Prices
from jobs.providers.base import Provider
from jobs.providers.offline import OfflineProvider
from jobs.providers.openai import OpenAIProvider
from jobs.setting_values import header_value, passwords_in, url
from jobs.settings import Settings, provider_secret

_LIMITS = ("max_in_flight", "requests_per_minute", "tokens_per_minute")


class _Endpoint(Schema):
    base_url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False, validate=url("http", "https"))
    models = fields.List(fields.String(validate=validate.Length(1)), required=True, validate=validate.Length(1))
    max_in_flight = fields.Integer(strict=True, validate=validate.Range(1))
    requests_per_minute = fields.Integer(strict=True, validate=validate.Range(1))
    tokens_per_minute = fields.Integer(strict=True, validate=validate.Range(1))
    api_key = fields.String(validate=header_value)
    api_key_env = fields.String()

    @validates_schema
    def _one_key(self, data: dict[str, Any], **_: Any) -> None:
        if "api_key" in data and "api_key_env" in data:
            raise ValidationError("give api_key or api_key_env, not both", "api_key")
        if "api_key_env" in data:
            secret = provider_secret(data["api_key_env"])
            if not secret:
                raise ValidationError("that environment variable is not set", "api_key_env")
            try:
                header_value(secret)
            except ValidationError as error:
                raise ValidationError(error.messages, "api_key_env") from None


class _Price(Schema):
    input = fields.Float(required=True, validate=validate.Range(0))
    output = fields.Float(required=True, validate=validate.Range(0))


class _PriceList(Schema):
    currency = fields.String(validate=validate.Regexp(r"[A-Z]{3}\Z", error="Not the three letters of a currency."))
    prices = fields.Dict(fields.String(validate=validate.Length(1)), fields.Nested(_Price))


class File(NamedTuple):
    """What a PROVIDERS_FILE says: endpoints by name, and prices."""

    endpoints: dict[str, dict[str, Any]]
    prices: Prices


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


class Endpoint(NamedTuple):
    """An endpoint of the settings; the default one lists no models."""

    name: str
    base_url: str
    api_key: str | None
    models: tuple[str, ...] = ()


def endpoints(settings: Settings) -> list[Endpoint]:
    """All that are configured, the default one last; raises like `build`."""
    found = [
        Endpoint(name, endpoint["base_url"], _key_of(endpoint), tuple(endpoint["models"]))
        for name, endpoint in _file(settings).endpoints.items()
    ]
    if settings.llm_base_url:
        found.append(Endpoint("default", settings.llm_base_url, settings.llm_api_key))
    return found


def build(settings: Settings) -> Catalog:
    """The catalog that the settings describe. Call it where an event loop runs.

    Raises:
        SettingsError: PROVIDERS_FILE is not as it should be.
    """
    by_model: dict[str, Provider] = {}
    default: Provider | None = None
    for endpoint in endpoints(settings):
        provider = OpenAIProvider(endpoint.name, endpoint.base_url, endpoint.api_key)
        if endpoint.models:
            by_model |= dict.fromkeys(endpoint.models, provider)
        else:
            default = provider
    if not (by_model or default):
        default = OfflineProvider()
    return Catalog(by_model, default)


def keys(settings: Settings) -> list[str]:
    """The secrets in PROVIDERS_FILE: keys, and passwords in addresses; raises like `build`."""
    listed = _file(settings).endpoints.values()
    found = [secret for endpoint in listed for secret in (_key_of(endpoint), *passwords_in(endpoint["base_url"]))]
    return [secret for secret in found if secret]


def rules(settings: Settings) -> dict[str, dict[str, int]]:
    """The limits in PROVIDERS_FILE, by the pool of each model that has any; raises like `build`."""
    return {
        pool_of("coroutine", model): limits
        for endpoint in _file(settings).endpoints.values()
        if (limits := {name: endpoint[name] for name in _LIMITS if name in endpoint})
        for model in endpoint["models"]
    }


def prices(settings: Settings) -> Prices:
    """The prices in PROVIDERS_FILE; raises like `build`."""
    return _file(settings).prices


def _file(settings: Settings) -> File:
    return read_file(settings.providers_file) if settings.providers_file else File({}, Prices())


def _key_of(endpoint: Mapping[str, Any]) -> str | None:
    return endpoint.get("api_key") or provider_secret(endpoint.get("api_key_env", ""))


def read_file(path: Path) -> File:
    """A PROVIDERS_FILE: tables `[providers.NAME]` and `[prices.MODEL]`, and a `currency`.

    Raises:
        SettingsError: every problem found, under PROVIDERS_FILE.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError({"PROVIDERS_FILE": f"{path}: {error}"}) from None
    except RecursionError:
        raise SettingsError({"PROVIDERS_FILE": f"{path}: nested too deeply"}) from None
    tables = document.pop("providers", {})
    given: dict[str, Any] = {name: document.pop(name) for name in ("currency", "prices") if name in document}
    problems = [f"unknown key {key!r}" for key in document]
    problems += [f"{name}: {said}" for name, said in _PriceList().validate(given).items()]
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
    if not found and not given and not problems:
        problems.append("has no [providers.NAME] table and no [prices.MODEL] table")
    if problems:
        raise SettingsError({"PROVIDERS_FILE": f"{path}: {'; '.join(problems)}"})
    listed = {model: Price(**price) for model, price in given.get("prices", {}).items()}
    return File(found, Prices(given.get("currency", "USD"), listed))
