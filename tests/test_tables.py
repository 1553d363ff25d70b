"""What notebooks show: sentences that the book's prose takes in."""

from __future__ import annotations

import IPython.display
import myst_nb
import myst_nb.ext.glue

from zfnet_lib.paper.tables import Note


def test_a_note_reaches_the_prose_as_myst_nb_hands_it_on(monkeypatch):
    shown = []
    for place in ((IPython.display, "display"), (myst_nb.ext.glue, "ipy_display")):
        monkeypatch.setattr(*place, lambda *data, **how: shown.append((data, how)))
    note = Note("`zfnet` beats 'krizhevsky'.")
    note.glue("contest")
    myst_nb.glue("contest", note.plain, display=False)
    assert shown[0] == shown[1] and "zfnet beats" in str(shown)
