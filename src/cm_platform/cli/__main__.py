"""python -m cm_platform.cli: the same as `cm-platform`."""

import sys

from . import main

sys.exit(main())
