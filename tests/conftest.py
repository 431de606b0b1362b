"""Every public annotation of the package is checked while the tests run; what is run
can be run again: one thread, the same examples."""

from jaxtyping import install_import_hook

# Before anything imports the package: modules that are already loaded are not checked.
install_import_hook("sparsekit", "type_checks.checked")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
# The same examples every time, however slow the machine is just now.
hypothesis.settings.register_profile("sparsekit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sparsekit")


def pytest_configure(config: pytest.Config) -> None:
    # The type checker looks at a random item of a list; hypothesis notices where a strategy builds a topology.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
