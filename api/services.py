"""What request handlers need, made once per web process."""

from dataclasses import dataclass
from typing import cast

from flask import Flask

from api.at_hand import the_app
from api.watching import Hub
from jobs.access import Keyring
from jobs.callbacks import Callbacks
from jobs.contents import Contents
from jobs.daily_lives import DailyLives
from jobs.depths import Depths
from jobs.embeddings import Embeddings
from jobs.handlers import registry
from jobs.handlers.registry import TaskType
from jobs.manage import Manager
from jobs.prices import Prices
from jobs.providers import catalog
from jobs.queues import Doorbell, connect
from jobs.sessions import Sessions
from jobs.settings import Settings
from jobs.store.database import Database
from jobs.submit import Submitter
from scheduler.firing import Firer
from scheduler.schedules import Schedules

WEB_THREADS = 16
"""Requests that one web process works on at once, each with a connection to the database of its own."""

_STATISTICS_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Services:
    """The web process's tools."""

    settings: Settings
    database: Database
    statistics: Database
    doorbell: Doorbell
    submitter: Submitter
    manager: Manager
    task_types: dict[str, TaskType]
    contents: Contents
    daily_lives: DailyLives
    embeddings: Embeddings
    schedules: Schedules
    firer: Firer
    hub: Hub
    callbacks: Callbacks
    prices: Prices
    depths: Depths
    keyring: Keyring
    sessions: Sessions


def build(settings: Settings) -> Services:
    """Connect lazily: a web process starts, and says what is wrong, also when the servers are away."""
    database = Database(settings.database_url, max_size=WEB_THREADS + 1)  # and one for the hub
    doorbell = Doorbell(connect(settings.redis_url))
    types = registry.load(settings.handler_modules)
    submitter = Submitter(settings, types, database, doorbell)
    manager = Manager(database, doorbell, submitter)
    keyring = Keyring(settings, database)
    return Services(
        settings,
        database,
        _for_statistics(settings, database),
        doorbell,
        submitter,
        manager,
        types,
        Contents(database, submitter),
        DailyLives(database, doorbell.connection),
        Embeddings(settings, database),
        Schedules(settings, types, database, doorbell),
        Firer(database, submitter, types),
        Hub(database, doorbell.connection, manager.batch, settings.watchers_max),
        Callbacks(database, settings.callback_secret),
        catalog.prices(settings),
        Depths(),
        keyring,
        Sessions(database, keyring),
    )


def _for_statistics(settings: Settings, database: Database) -> Database:
    """Where what ended is read: `database`, or a replica of it."""
    if settings.statistics_database_url is None:
        return database
    return Database(settings.statistics_database_url, max_size=_STATISTICS_CONNECTIONS)


def install(app: Flask, services: Services) -> None:
    """Make `services` what `get` returns in this app."""
    app.extensions["pressroom"] = services


def get() -> Services:
    """The current app's services."""
    return cast(Services, the_app().extensions["pressroom"])
