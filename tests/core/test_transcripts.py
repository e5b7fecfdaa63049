"""Every rule of the machine as a transcript that people review as a diff. `REWRITE=1` writes what it does now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.transcripts import read_transcript, run_transcript, written

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    text = path.read_text()
    now = written(run_transcript(read_transcript(text)))
    if os.environ.get("REWRITE"):
        path.write_text(now)
        return
    assert now == text, f"{path.name} differs; if that is meant, REWRITE=1 and review the diff"


def test_there_is_one_for_each_rule() -> None:
    assert len(TRANSCRIPTS) >= 30
