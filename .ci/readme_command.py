"""Print the README's test command."""

import re
import sys
from pathlib import Path

readme = Path("README.md").read_text("utf-8")
pattern = r"<!-- test command -->\s*```\w*\n(.*?)\n```"
blocks = re.findall(pattern, readme, re.DOTALL)
if len(blocks) != 1 or "\n" in blocks[0]:
    sys.exit("README.md must have one line in one block after <!-- test command -->.")
print(blocks[0])
