"""A module that cannot be imported, and says so as this project does (see test_workers)."""

from resnet8.errors import DataError

raise DataError("nothing is here", found="nothing", expected="something", remedy="go on")
