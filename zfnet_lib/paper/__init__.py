"""The reproduction: the paper's numbers, the records, the named trainings, and one module a figure or table.

A notebook that imports from here has its parameters checked, whoever runs it.
"""

import sys

from .setting import check_parameters

check_parameters(vars(sys.modules["__main__"]))
