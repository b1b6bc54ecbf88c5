"""Registers the plugin for a checkout that is not installed; where it is, pytest knows it by the same name."""

pytest_plugins = ["harness.plugin"]
