"""/api/v1/accounts: whom content is produced for."""

from typing import Any

from flask import jsonify, url_for
from marshmallow import ValidationError, fields, validate, validates_schema

from api import services
from api.bodies import Answer, Blueprint, Change
from api.errors import abort
from api.paging import Paging, page_of, shown_by, sort_field
from jobs.errors import found
from jobs.fields import JsonObject, StrictInteger, Text
from jobs.store import listing
from jobs.store.database import Json

blueprint = Blueprint("accounts", __name__, url_prefix="/api/v1/accounts", description="Whom content is produced for")

_PROFILE = "Free facts for prompts; `voice`, `audience` and `default_category` are used by the shipped ones."


class AccountChange(Change):
    """What may be changed of an account."""

    name = Text(validate=validate.Length(1, 200))
    profile = JsonObject(metadata={"description": _PROFILE})

    @validates_schema(skip_on_field_errors=True)
    def _profile_texts(self, data: dict[str, Any], **_: Any) -> None:
        for key in ("voice", "audience", "default_category"):
            value = data.get("profile", {}).get(key)
            if value is not None and not isinstance(value, str):
                raise ValidationError({"profile": {key: ["Not a valid string."]}})


class NewAccount(AccountChange):
    """An account to create."""

    id = StrictInteger(validate=validate.Range(1, 2**53), metadata={"description": "Yours; else one is given."})
    name = Text(required=True, validate=validate.Length(1, 200))
    profile = JsonObject(load_default=dict, metadata={"description": _PROFILE})


class AccountSchema(Answer):
    """An account as returned."""

    id = fields.Integer()
    name = fields.String()
    profile = fields.Raw(metadata={"type": "object"})
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class AccountQuery(Paging):
    """The query of the list."""

    sort = sort_field(listing.ACCOUNTS)


shown = shown_by(AccountSchema)
"""An account's row as the API returns it."""


@blueprint.post("")
@blueprint.arguments(NewAccount)
@blueprint.response(201, AccountSchema)
@blueprint.alt_response(409, description="The id is taken")
def create_account(wanted: dict[str, Any]) -> Any:
    """Create an account, with an id of yours if you have one."""
    account_id = wanted.get("id")
    facts = {"id": account_id, "name": wanted["name"], "profile": Json(wanted["profile"])}
    with services.get().database.transaction() as session:
        row = session.one("insert_account", facts)
        if account_id is None:
            # Somebody may just have chosen the number that the sequence gave.
            while row is None:
                row = session.one("insert_account", facts)
        elif row:
            session.all("lift_account_ids")
    if row is None:
        abort(409, message=f"There is an account {account_id} already.")
    return jsonify(shown(row)), 201, {"Location": url_for("accounts.get_account", account_id=row["id"])}


@blueprint.get("")
@blueprint.arguments(AccountQuery, location="query", unknown="raise")
@blueprint.response(200, AccountSchema(many=True))
def list_accounts(query: dict[str, Any]) -> Any:
    """Accounts, newest first."""
    return page_of(listing.ACCOUNTS, query, shown)


@blueprint.get("/<id:account_id>")
@blueprint.response(200, AccountSchema)
def get_account(account_id: int) -> Any:
    """One account."""
    return jsonify(shown(found(services.get().database.one("get_account", {"id": account_id}), "account", account_id)))


def _update(account_id: int, change: dict[str, Any]) -> Any:
    facts = {
        "id": account_id,
        "name": change.get("name"),
        "profile": Json(change["profile"]) if "profile" in change else None,
    }
    return jsonify(shown(found(services.get().database.one("update_account", facts), "account", account_id)))


class AccountReplacement(AccountChange):
    """An account's facts as a whole."""

    name = Text(required=True, validate=validate.Length(1, 200))
    profile = JsonObject(load_default=dict, metadata={"description": _PROFILE})


@blueprint.put("/<id:account_id>")
@blueprint.arguments(AccountReplacement)
@blueprint.response(200, AccountSchema)
def replace_account(change: dict[str, Any], account_id: int) -> Any:
    """Replace an account's name and profile."""
    return _update(account_id, change)


@blueprint.patch("/<id:account_id>")
@blueprint.arguments(AccountChange)
@blueprint.response(200, AccountSchema)
def change_account(change: dict[str, Any], account_id: int) -> Any:
    """Change an account's name or profile."""
    return _update(account_id, change)


@blueprint.delete("/<id:account_id>")
@blueprint.response(204)
@blueprint.alt_response(409, description="It has contents or unfinished tasks")
def delete_account(account_id: int) -> Any:
    """Remove an account that has neither contents nor unfinished tasks."""
    database = services.get().database
    if not database.all("delete_account", {"id": account_id}):
        found(database.one("get_account", {"id": account_id}), "account", account_id)
        abort(409, message=f"Account {account_id} has contents or unfinished tasks.")
    return "", 204
