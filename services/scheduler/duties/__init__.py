"""Background duties of the scheduler, one file each: `run_once() -> counts`, and a loop that only calls it."""
