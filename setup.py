"""Where the packages lie: in the repository beside ``golflab/``, once installed inside it. All else is in pyproject.toml."""

from setuptools import find_packages, setup

WINGS = ("model", "spaces", "search", "analysis")
inside = [name for wing in WINGS for name in (wing, *(f"{wing}.{sub}" for sub in find_packages(wing)))]
setup(
    packages=["golflab", *(f"golflab.{name}" for name in inside)],
    package_dir={"golflab": "golflab"} | {f"golflab.{wing}": wing for wing in WINGS},
)
