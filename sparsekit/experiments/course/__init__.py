"""The course: exercises and their checks, the reader's progress, and the arena in which rules compete."""

from sparsekit.experiments.course.arena import CONNECTIONS, STEPS, compete, digits, rigl, table_of, trained
from sparsekit.experiments.course.tasks import exercise, exercises

__all__ = ["CONNECTIONS", "STEPS", "compete", "digits", "exercise", "exercises", "rigl", "table_of", "trained"]
