"""Notifications about findings, by rule and channel."""
