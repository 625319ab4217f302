"""Which drop-in the suite in green/ is run over."""

import os

NAME = os.environ.get("GZMQSOURCE_TEST_GREEN", "gzmqsource.green")
