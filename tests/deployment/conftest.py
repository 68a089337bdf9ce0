"""What the tests of the deployment share: processes that end with the test, as in the end-to-end tests."""

from tests.end_to_end.conftest import pytest_runtest_makereport, start

__all__ = ["pytest_runtest_makereport", "start"]
