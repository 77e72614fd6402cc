"""Tabular instances: random, from files, with log-linear classes; and finite languages, which are such instances."""

from theory.instances.files import load_instance, save_instance, save_npz
from theory.instances.language import Language, random_language
from theory.instances.language_files import load_language, save_language
from theory.instances.random import random_instance
from theory.instances.tabular import Instance

__all__ = [
    "Instance",
    "Language",
    "load_instance",
    "load_language",
    "random_instance",
    "random_language",
    "save_instance",
    "save_language",
    "save_npz",
]
