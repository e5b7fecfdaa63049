"""The engine: `core` decides, `adapters` touch the world, a folder with a `__main__.py` is a process."""
