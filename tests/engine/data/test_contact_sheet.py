"""Sheets of captioned pictures."""

from __future__ import annotations

import numpy as np
import torch

from ti_engine.data.contact_sheet import contact_sheet, rows_of_pictures

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def picture(colour, side=40):
    return (torch.tensor(colour, dtype=torch.float32) / 255).view(3, 1, 1).expand(3, side, side)


def places(sheet, colour):
    """Left, top, width and height of what has a colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    return (
        int(columns.min()),
        int(rows.min()),
        int(columns.max() - columns.min() + 1),
        int(rows.max() - rows.min() + 1),
    )


def test_rows_keep_the_order_and_every_picture_whole():
    sheet = rows_of_pictures([(f"step {i}", picture(colour)) for i, colour in enumerate(COLOURS)], columns=2)
    (ax, ay, *a), (bx, by, *b), (cx, cy, *c) = (places(sheet, colour) for colour in COLOURS)
    assert a == b == c == [40, 40]
    assert ax < bx and ay == by and cx == ax and cy > ay + 40


def test_one_picture_makes_a_sheet():
    sheet = rows_of_pictures([("step 0", picture(COLOURS[0]))])
    assert places(sheet, COLOURS[0])[2:] == (40, 40)


def test_captions_stand_above_and_grow_with_the_pictures():
    heads = [
        places(contact_sheet([("step 0", picture(COLOURS[0], side)[None])]), COLOURS[0])[1] for side in (100, 176, 704)
    ]
    assert heads[0] == heads[1] < heads[2]
