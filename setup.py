"""What `pyproject.toml` cannot say: a checkout without symbolic links gives no wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

PACKAGES = Path(__file__).parent / "hvdsl"
LINKED = ("compiler", "grammar", "runtime", "specs")


class Build(build_py):
    """Build the packages, where all of them are there to be built."""

    def run(self) -> None:
        absent = [name for name in LINKED if not (PACKAGES / name).is_dir()]
        if absent and not self.editable_mode:
            places = ", ".join(f"hvdsl/{name}" for name in absent)
            raise SetupError(
                f"this checkout has no symbolic links ({places}), so a wheel would lack these packages: "
                "clone again with `git -c core.symlinks=true clone`"
            )
        super().run()


setup(cmdclass={"build_py": Build})
