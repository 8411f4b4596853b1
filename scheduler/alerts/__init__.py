"""Alerts: what operators are told of."""
