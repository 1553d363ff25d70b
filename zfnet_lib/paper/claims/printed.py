"""Whether the paper's own numbers agree with its claims, by the sheets of cells and formulas in `claims.toml`."""

from typing import Any

import numpy as np

from ..numbers import cell, hyperparameter


def reckoned(shown: str, **sheet: Any) -> tuple[bool, str]:
    """Fill in a sheet from top to bottom; return whether its formula `agrees` is true, and what it has `shown`."""
    for name, entry in sheet.items():
        match entry:
            case str(formula):  # of our own registry, in which code is as good as here
                sheet[name] = eval(formula, {}, sheet)
            case [parameter]:
                sheet[name] = hyperparameter(parameter)
            case [table, rows, columns, *base]:
                rows, columns = np.atleast_1d(rows), np.atleast_1d(columns)
                sheet[name] = np.squeeze([[cell(table, row, column, *base) for column in columns] for row in rows])
    return bool(sheet["agrees"]), shown.format(**sheet)
