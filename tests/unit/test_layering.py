"""Who may import whom, and what the command line must not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]


def test_the_layers_hold(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


@pytest.mark.parametrize(
    "module",
    [
        "gossip.cli",
        "scenarios.cli",
        "gossip.config",
        "gossip.protocols",
        "gossip.net.peers_file",
        "topologies",
    ],
)
def test_settings_and_command_lines_do_not_import_torch(module):
    code = (
        "import importlib, sys\n"
        f"module = importlib.import_module({module!r})\n"
        "if hasattr(module, 'app'):\n"
        "    try: module.app(['--help'])\n"
        "    except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
