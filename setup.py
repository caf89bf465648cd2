"""Ships conf/ within the package, so that an installed one trains anywhere; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConf(build_py):
    """Copies conf/ to autocaption/conf, but for a machine's own settings in conf/local."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:  # a checkout has it beside the package
            for source, target in self._conf().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What is built."""
        return super().get_outputs(include_bytecode) + list(self._conf().values())

    def _conf(self) -> dict[str, str]:
        files = (file for file in Path("conf").rglob("*.yaml") if "local" not in file.parts)
        return {str(file): f"{self.build_lib}/autocaption/{file}" for file in sorted(files)}


setup(cmdclass={"build_py": WithConf})
