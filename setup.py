"""Build script; what is declared is in setup.cfg."""

from setuptools import setup

setup()
