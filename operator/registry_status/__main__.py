"""`python -m registry_status` is `registry-status`."""

import sys

from registry_status.cli import main

sys.exit(main())
