"""Measurements. Each is a module to run: see README.md."""

from model.environment import prepare_environment

prepare_environment()
