"""The course: exercises and their checks, the reader's progress, and the arena of the last notebook."""
