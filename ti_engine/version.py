"""The version of this program, as pyproject.toml has it; ComfyUI loads the folder without installing it."""

VERSION = "0.1.0"
