"""Importing this module registers all runners: one module per family of networks."""

from tests.parity import facevid2vid, sadtalker_motion  # noqa: F401
