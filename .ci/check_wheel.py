"""The wheel holds the four packages, and no tests."""

import sys
import zipfile
from pathlib import PurePosixPath

files = [PurePosixPath(name) for name in zipfile.ZipFile(sys.argv[1]).namelist()]
top = {path.parts[0] for path in files if not path.parts[0].endswith(".dist-info")}
if top != {"sensitivity", "models", "analysis", "data"}:
    sys.exit(f"the wheel must hold the four packages only, got {sorted(top)}.")
tests = [
    str(path)
    for path in files
    if "tests" in path.parts or path.name.startswith(("test_", "conftest"))
]
if tests:
    sys.exit(f"the wheel must hold no tests, got {tests}.")
print(f"{PurePosixPath(sys.argv[1]).name}: {', '.join(sorted(top))}")
