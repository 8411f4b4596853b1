"""Pressroom's work: task life, store, queues, worker, handlers, providers."""

__version__ = "0.1.0"
