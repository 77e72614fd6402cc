"""Tabular instances: random, from files, with log-linear classes."""

from theory.instances.files import load_instance, save_instance, save_npz
from theory.instances.random import random_instance
from theory.instances.tabular import Instance

__all__ = ["Instance", "load_instance", "random_instance", "save_instance", "save_npz"]
